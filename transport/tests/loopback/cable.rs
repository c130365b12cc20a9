//! A path that can be cut without either end noticing, as a pulled cable is.

use std::sync::Arc;

use meshraft_transport::Multiaddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub(crate) struct Cable {
    pub(crate) port: u16,
    plugged: Arc<watch::Sender<bool>>,
}

impl Cable {
    pub(crate) async fn to(address: &Multiaddr) -> Self {
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
                tokio::spawn(carry(near_in, far_out, switch.subscribe()));
                tokio::spawn(carry(far_in, near_out, switch.subscribe()));
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
) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
        && plugged.wait_for(|plugged| *plugged).await.is_ok()
        && to.write_all(&buffer[..count]).await.is_ok()
    {}
}
