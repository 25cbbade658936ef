//! The lease of a bus on JetStream: a message that the server forgets when it is not renewed; whoever puts it where there is
//! none has it.

use std::time::Duration;

use bytes::Bytes;

use super::remote::Remote;
use crate::Answer;
use crate::shared::{Lease, Trouble, Waits};

/// How long the lease holds without being renewed.
const LEASE_FOR: Duration = Duration::from_secs(6);

/// The lease of a bus, held.
#[derive(Debug)]
pub(super) struct Held {
    remote: Remote,
    node: String,
    sequence: u64,
}

impl Held {
    /// Takes the lease if nobody has it; else says who does.
    pub(super) async fn take(remote: &Remote, node: &str) -> Result<Result<Self, String>, Trouble> {
        let name = Bytes::from(node.to_owned());
        match remote.put("owner", name, Some(0), Some(LEASE_FOR)).await {
            Ok(sequence) => Ok(Ok(Self { remote: remote.clone(), node: node.to_owned(), sequence })),
            Err(Trouble::Conflict) => {
                match remote.newest("owner").await? {
                    // Another node has given it to this one.
                    Some((sequence, owner)) if owner == node.as_bytes() => {
                        Ok(Ok(Self { remote: remote.clone(), node: node.to_owned(), sequence }))
                    }
                    owner => {
                        Ok(Err(owner.map_or_else(String::new, |(_, name)| String::from_utf8_lossy(&name).into_owned())))
                    }
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn try_to_renew(&mut self) -> Result<(), Trouble> {
        let name = Bytes::from(self.node.clone());
        match self.remote.put("owner", name.clone(), Some(self.sequence), Some(LEASE_FOR)).await {
            Ok(sequence) => self.sequence = sequence,
            Err(Trouble::Conflict) => {
                // The answer to an earlier try may have been lost; or the server forgot it while nobody could be reached.
                match self.remote.newest("owner").await? {
                    Some((sequence, owner)) if owner == name => self.sequence = sequence,
                    Some(_) => return Err(Trouble::Conflict),
                    None => self.sequence = self.remote.put("owner", name, Some(0), Some(LEASE_FOR)).await?,
                }
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }
}

impl Lease for Held {
    fn renew(&mut self) -> Waits<'_, Result<(), Trouble>> {
        Box::pin(self.try_to_renew())
    }

    fn give_to(self: Box<Self>, node: &str) -> Answer<Result<(), Trouble>> {
        let name = Bytes::from(node.to_owned());
        Box::pin(async move { self.remote.put("owner", name, Some(self.sequence), Some(LEASE_FOR)).await.map(drop) })
    }

    fn give_back(self: Box<Self>) -> Answer<Result<(), Trouble>> {
        Box::pin(async move { self.remote.remove(self.sequence).await })
    }
}
