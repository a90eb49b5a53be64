//! A thread of its own for what must be in time however busy all others are: the Lease.
//!
//! Thousands of objects that change together can keep every worker of the runtime busy for seconds. A renewal that
//! waits behind them is a leader lost for nothing.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// A runtime with one thread.
pub struct Aside {
    handle: Handle,
    /// Taken when it is dropped only.
    runtime: Option<Runtime>,
}

impl Aside {
    /// A thread of that name, at most 15 characters.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Makes something whose own tasks are to run on the thread, such as a client.
    pub fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        make()
    }

    /// Runs `task` on the thread, with all that it spawns. It ends when what is returned is dropped; what it spawned
    /// goes on as long as the thread.
    pub fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.handle.spawn(task))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped by a task of another runtime, which must not wait.
            runtime.shutdown_background();
        }
    }
}
