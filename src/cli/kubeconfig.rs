//! Which API server, as whom: the kubeconfig's word, or the pod's own account.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::CliError;
use crate::causes::of_kubeconfig as words;

/// What was being done when it failed.
const WHAT: &str = "find a Kubernetes API server";

/// Which kubeconfig, and which of its contexts. As kubectl has them, so before the verb, too.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct KubeconfigArgs {
    /// The kubeconfig, for verbs that ask an API server; default: KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, help_heading = "Kubernetes", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; default: its current one
    #[arg(long, global = true, help_heading = "Kubernetes", value_name = "NAME")]
    pub context: Option<String>,
}

impl KubeconfigArgs {
    /// An error where something was chosen and the verb asks no API server: it would do nothing.
    pub fn refuse(&self, verb: &str) -> Result<(), CliError> {
        let chosen = [("--kubeconfig", self.kubeconfig.is_some()), ("--context", self.context.is_some())];
        match chosen.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(CliError(format!("{verb}: {flag} is of no use: it asks no API server"))),
            None => Ok(()),
        }
    }

    /// The way to the API server. Without a kubeconfig, and where none was chosen, the one of the pod.
    pub async fn load(&self) -> Result<Config, CliError> {
        let mut config = match self.in_files().await {
            Ok(config) => config,
            Err(error) if self.kubeconfig.is_some() || self.context.is_some() => {
                return Err(CliError::new(WHAT, error));
            }
            Err(error) => Config::incluster().map_err(|pod| {
                CliError::new(WHAT, format!("{error} (is KUBECONFIG right?); nor is this a pod: {pod}"))
            })?,
        };
        config.apply_debug_overrides();
        Ok(config)
    }

    async fn in_files(&self) -> Result<Config, String> {
        let files = self.files()?;
        let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ");
        let of = |error: &KubeconfigError| format!("kubeconfig {shown}: {}", words(error));
        let mut merged = Kubeconfig::default();
        for file in &files {
            let read = Kubeconfig::read_from(file).map_err(|error| of_file(file, &error))?;
            merged = merged.merge(read).map_err(|error| of(&error))?;
        }
        let names: Vec<_> = merged.contexts.iter().map(|context| context.name.clone()).collect();
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Config::from_custom_kubeconfig(merged, &options).await.map_err(|error| match &error {
            KubeconfigError::LoadContext(_) if names.is_empty() => format!("{}; it has none", of(&error)),
            KubeconfigError::LoadContext(_) => format!("{}; it has {}", of(&error), names.join(", ")),
            error => of(error),
        })
    }

    /// The files, in the order in which they count: the flag, the variable, the one in the home folder.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        if let Some(file) = &self.kubeconfig {
            return Ok(vec![file.clone()]);
        }
        let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
        let named: Vec<_> =
            std::env::split_paths(&named).filter(|file| !file.as_os_str().is_empty()).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let home = std::env::home_dir().ok_or("no KUBECONFIG, and no home folder")?;
        Ok(vec![home.join(".kube").join("config")])
    }
}

fn of_file(file: &Path, error: &KubeconfigError) -> String {
    format!("kubeconfig {}: {}", file.display(), words(error))
}
