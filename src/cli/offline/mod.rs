//! Brokers without a cluster: what `plan`, `apply` and `import` share.
//!
//! ```text
//!  files ──▶ input ──▶ objects (schema) ──▶ candidates ──▶ guard ──▶ session ──▶ entries ──▶ show
//!                         │ Brokers, Secrets                            ▲  │
//!                         └────────────▶ links ─────────────────────┘  └──▶ apply
//! ```
//!
//! The planner, the guard rails and the steps at brokers are the operator's own
//! ([`crate::topology`], [`crate::apply`]); what is missing here is what the API server remembers:
//! status, creation times, cluster ids. The documentation says what follows from that.
//!
//! * [`input`]: files into documents; [`plain`]: what `kubectl` would read another way; [`schema`]: what the API server would check; [`objects`]: both
//!   together; [`secrets`]: credentials from three places
//! * [`candidates`]: objects and their companions as broker objects that are wanted;
//!   [`references`]: objects that name each other; [`guard`]: who may and who owns
//! * [`links`]: the way to brokers ([`crate::controllers::settings`])
//! * [`session`]: planning and doing; [`topics`], [`rabbitmq`]: how that is done
//! * [`export`]: what a broker has as manifests
//! * [`entry`]: the plan as data; [`show`]: the plan on paper; [`progress`]: how far work has come

pub mod candidates;
pub mod entry;
pub mod export;
pub mod guard;
pub mod input;
pub mod links;
pub mod objects;
pub mod plain;
pub mod progress;
pub mod rabbitmq;
pub mod references;
pub mod schema;
pub mod secrets;
pub mod session;
pub mod show;
pub mod topics;

use std::path::PathBuf;

use self::objects::Objects;
use super::CliError;

/// Where objects and credentials come from.
#[derive(clap::Args, Clone, Debug)]
pub struct SourceArgs {
    /// A file, a folder (all *.yaml, *.yml and *.json below it), or - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub files: Vec<String>,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default", value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: String,
    /// A folder with Secrets that are not in the input: NAME/KEY or NAMESPACE/NAME/KEY, as Kubernetes mounts them
    #[arg(long, value_name = "FOLDER")]
    pub secrets: Option<PathBuf>,
}

impl SourceArgs {
    /// Reads everything. No document at all is an error: a wrong folder must not look like a broker
    /// that is in step.
    pub fn read(&self) -> Result<Objects, CliError> {
        let input = input::read(&self.files)?;
        if input.documents.is_empty() && input.wrong.is_empty() {
            let json = input.no_manifests.len();
            let left = if json > 0 {
                format!(" but {json} JSON without apiVersion and kind")
            } else {
                String::new()
            };
            let none = format!("no document in {}{left}", self.files.join(", "));
            return Err(CliError::new("read the input", none));
        }
        Ok(Objects::of(input, &self.namespace, self.secrets.clone()))
    }
}

/// Runs work that talks to brokers.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new("start the async runtime", error))?;
    let result = runtime.block_on(work);
    // Requests that nobody waits for any more must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
