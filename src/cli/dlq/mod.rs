//! `spillway dlq`: dead letters, looked at and left where they are.
//!
//! ```text
//!  API server ──▶ place (which topic or queue takes whose dead letters) ──▶ read (brokers) ──▶ show
//! ```

mod place;
mod read;
mod show;

use super::CliError;
use super::cluster::{Cluster, NamespaceArgs};
use super::kubeconfig::KubeconfigArgs;
use super::offline::block_on;
use super::output::{Format, print};
use super::ways::Ways;

const LS_EXAMPLES: &str = "\
Examples:
  spillway dlq ls                 the context's namespace
  spillway dlq ls -A -o json      all namespaces, for programs

The brokers are asked with the credentials of the Broker objects: whoever asks must be able to read their Secrets.";

const SHOW_EXAMPLES: &str = "\
Examples:
  spillway dlq show topic/orders              the newest ten of Topic orders
  spillway dlq show queue/payments --limit 3  the oldest three of Queue payments
  spillway dlq show topic/dlq-payment -o json

Nothing is consumed, and no offset is committed. A queue gives its oldest messages and takes them \
back; that counts as a delivery, so it is refused where the queue has a delivery limit. A \
stream cannot be looked at this way.";

/// What to do with dead letters.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// List where dead letters go, and how many are there
    #[command(after_help = LS_EXAMPLES)]
    Ls(LsArgs),
    /// Show dead letters with their headers
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
}

/// The arguments of `spillway dlq ls`.
#[derive(clap::Args, Debug)]
pub struct LsArgs {
    /// Which namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The arguments of `spillway dlq show`.
#[derive(clap::Args, Debug)]
pub struct ShowArgs {
    /// Whose dead letters: topic/NAME or queue/NAME; one that has none of its own is shown itself
    #[arg(value_name = "KIND/NAME", value_parser = place::parse)]
    pub object: (place::Kind, String),
    /// The namespace; default: the one of the kubeconfig's context
    #[arg(short, long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How many messages at most
    #[arg(short, long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// How much of a body to show, in bytes
    #[arg(long, default_value_t = 1_024, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub bytes: u32,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Runs the verb.
pub fn execute(verb: &Verb, way: &KubeconfigArgs) -> Result<(), CliError> {
    block_on(async {
        let cluster = Cluster::connect(way).await?;
        let mut ways = Ways::default();
        let text = match verb {
            Verb::Ls(args) => {
                let namespace = cluster.namespace(&args.namespace);
                let places = place::all(&cluster, namespace.as_deref()).await?;
                let mut rows = Vec::with_capacity(places.len());
                for place in places {
                    let count = match ways.to(&cluster, &place.broker.0, &place.broker.1).await {
                        Ok(way) => read::count(&way, &place).await,
                        Err(why) => Err(why),
                    };
                    rows.push(show::Row::of(&place, count));
                }
                show::list(&rows, args.output)
            }
            Verb::Show(args) => {
                let here = NamespaceArgs { namespace: args.namespace.clone(), all_namespaces: false };
                let namespace = cluster.namespace(&here).unwrap_or_default();
                let (kind, name) = &args.object;
                let place = place::of(&cluster, *kind, &namespace, name).await?;
                let what = format!("look at {}", place.in_words());
                let way = ways
                    .to(&cluster, &place.broker.0, &place.broker.1)
                    .await
                    .map_err(|why| CliError::new(&what, why))?;
                let letters = read::letters(&way, &place, usize::from(args.limit), args.bytes)
                    .await
                    .map_err(|why| CliError::new(&what, why))?;
                show::letters(&place, &letters, args.output)
            }
        };
        print(&text?)
    })
}
