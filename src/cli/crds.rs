//! `spillway crds`: the custom resource definitions, as YAML.

use std::path::PathBuf;

use super::CliError;
use super::output::print;
use crate::api;

const EXAMPLES: &str = "\
Examples:
  spillway crds | kubectl apply --server-side -f -
  spillway crds --out crds/            one file for each kind";

/// The arguments of `spillway crds`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write one file for each kind into this folder instead of printing
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// The files: name and text.
pub fn files() -> Result<Vec<(String, String)>, CliError> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let text =
                serde_yaml::to_string(&crd).map_err(|error| CliError::new("write a CRD as YAML", error))?;
            Ok((format!("{}.yaml", crd.spec.names.plural), text))
        })
        .collect()
}

/// Prints or writes the definitions.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let files = files()?;
    if let Some(folder) = &args.out {
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|error| CliError::new(&format!("write {}", path.display()), error))?;
        }
        return Ok(());
    }
    let documents: Vec<_> = files.iter().flat_map(|(_, text)| ["---\n", text.trim_end(), "\n"]).collect();
    print(&documents.concat())
}
