// SPDX-License-Identifier: Apache-2.0
//! Removes what killed test processes left in an engine.

use std::collections::HashMap;

use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::sync::OnceCell;

use crate::container::owner;
use crate::error::{Error, Result};

/// Removes the containers of dead owners, once in a process; a failure is told and stops nothing.
pub(crate) async fn once(docker: &Docker) {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    SWEPT
        .get_or_init(|| async {
            match dead_owners(docker).await {
                Ok(0) => {}
                Ok(count) => eprintln!("testbed: removed {count} containers of killed tests"),
                Err(error) => eprintln!("testbed: {error}"),
            }
        })
        .await;
}

async fn dead_owners(docker: &Docker) -> Result<usize> {
    let failed = |e| Error::during("cannot look for containers of killed tests", e);
    let ours = HashMap::from([("label", vec![owner::LABEL])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
    let mut removed = 0;
    for container in docker.list_containers(Some(options)).await.map_err(failed)? {
        let label = container.labels.as_ref().and_then(|labels| labels.get(owner::LABEL));
        let (Some(id), Some(label)) = (container.id, label) else {
            continue;
        };
        if !owner::is_dead(label) {
            continue;
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match docker.remove_container(&id, Some(options)).await {
            Ok(()) => removed += 1,
            // Another process may sweep at the same time.
            Err(error) => eprintln!("testbed: container {id} of a killed test stays: {error}"),
        }
    }
    Ok(removed)
}
