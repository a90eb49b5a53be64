//! A request's body that the fence is asked for.
//!
//! Between the question to the [`Fence`] and the first byte on the wire a request may wait: for a connection, for its TLS
//! handshake, for its turn. A process that is frozen meanwhile and wakes when another leads would send it. So the fence
//! is asked once more when the connection takes the request's body, right before the bytes are written. A request
//! whose body never comes is none for a server.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::fence::Fence;

/// A body that is not given out once the fence is closed.
pub struct Fenced<B> {
    body: B,
    fence: Fence,
}

impl<B> Fenced<B> {
    /// Guards a body.
    pub const fn new(body: B, fence: Fence) -> Self {
        Self { body, fence }
    }
}

impl<B: Body<Error: Into<BoxError>> + Unpin> Body for Fenced<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Err(fenced) = self.fence.check() {
            return Poll::Ready(Some(Err(fenced.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_is_given_out_until_the_fence_closes() {
        let fence = Fence::until(Instant::now() + Duration::from_secs(3600));
        let body = || Fenced::new("{}".to_owned(), fence.clone());
        assert_eq!(body().collect().await.expect("the fence is open").to_bytes(), "{}");
        let waiting = body();
        fence.close();
        let refused = waiting.collect().await.expect_err("the fence is closed");
        assert!(refused.to_string().contains("leader Lease"), "{refused}");
    }
}
