//! A path that can be cut without either end noticing, as a pulled cable is, or that is narrow.

use std::{sync::Arc, time::Duration};

use meshraft_transport::Multiaddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep_until},
};

pub(crate) struct Cable {
    pub(crate) port: u16,
    plugged: Arc<watch::Sender<bool>>,
}

impl Cable {
    pub(crate) async fn to(address: &Multiaddr) -> Self {
        Self::paced(address, None).await
    }

    /// A path that carries so many bytes a second in each direction.
    pub(crate) async fn narrow(address: &Multiaddr, bytes_per_second: u32) -> Self {
        Self::paced(address, Some(bytes_per_second)).await
    }

    async fn paced(address: &Multiaddr, pace: Option<u32>) -> Self {
        let far = address.to_string();
        let far: u16 = far.split('/').nth(4).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plugged = Arc::new(watch::Sender::new(true));
        let switch = Arc::clone(&plugged);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", far)).await else { continue };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(carry(near_in, far_out, switch.subscribe(), pace));
                tokio::spawn(carry(far_in, near_out, switch.subscribe(), pace));
            }
        });
        Self { port, plugged }
    }

    pub(crate) fn plug(&self, plugged: bool) {
        self.plugged.send_replace(plugged);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut plugged: watch::Receiver<bool>,
    pace: Option<u32>,
) {
    let mut buffer = [0; 4096];
    let mut free_at = Instant::now();
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
        && plugged.wait_for(|plugged| *plugged).await.is_ok()
        && to.write_all(&buffer[..count]).await.is_ok()
    {
        if let Some(bytes_per_second) = pace {
            // The time that these bytes take on the wire; it can't be saved up.
            let taken = Duration::from_secs_f64(count as f64 / f64::from(bytes_per_second));
            free_at = free_at.max(Instant::now()) + taken;
            sleep_until(free_at).await;
        }
    }
}
