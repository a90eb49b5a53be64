//! Waking objects that have to look again for a reason that their own watch does not show.

use std::sync::{Mutex, PoisonError};

use futures::Stream;
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::sync::mpsc;

/// Wakes objects of one kind. Waking costs nothing when nobody listens (a standby).
pub struct Wake<K: Lookup>(Mutex<Vec<mpsc::UnboundedSender<ObjectRef<K>>>>);

impl<K: Lookup> Default for Wake<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Lookup + 'static> Wake<K>
where
    K::DynamicType: Clone + Send,
{
    /// Wakes one object.
    pub fn wake(&self, object: &ObjectRef<K>) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(object.clone()).is_ok());
    }

    /// Every object that is woken from now on.
    pub fn listen(&self) -> impl Stream<Item = ObjectRef<K>> + use<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|object| (object, receiver))
        })
    }
}
