//! `wasi:keyvalue` on the embedded store, in the two drafts that guests import: `0.2.0-draft`
//! (wasmtime, wasmCloud) and `0.2.0-draft2` (Spin, the published proposal). Pre-releases match no
//! other version, so both are linked.
//!
//! Bucket `""` and `default` are the plugin's own default bucket; every other name is a bucket of the
//! plugin's own too. No bucket is shared between plugins.

use std::sync::Arc;

use wasmtime::component::{Access, HasSelf, Linker, Resource};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::WasiView;

use self::bindings::wasi::keyvalue0_2_0_draft as draft;
use self::bindings::wasi::keyvalue0_2_0_draft2 as draft2;
use super::sql::claim;
use crate::plugin::state::HostState;
use crate::store::{Claim, Delta, Pairs, StoreError, Swap, Version};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package wharf:bindings;
            world pairs {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "wharf:bindings/pairs",
        imports: {
            "wasi:keyvalue/store@0.2.0-draft.[drop]bucket": trappable,
            "wasi:keyvalue/store@0.2.0-draft2.[drop]bucket": trappable,
            "wasi:keyvalue/atomics@0.2.0-draft2.[drop]cas": trappable,
            default: async | store | trappable,
        },
        with: {
            "wasi:keyvalue/store@0.2.0-draft.bucket": super::Bucket,
            "wasi:keyvalue/store@0.2.0-draft2.bucket": super::Bucket,
            "wasi:keyvalue/atomics@0.2.0-draft2.cas": super::Seen,
        },
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    bindings::Pairs::add_to_linker::<HostState, HasSelf<HostState>>(linker, |state| state)
}

/// A bucket that a guest has opened.
#[derive(Clone, Debug)]
pub struct Bucket {
    pairs: Pairs,
    name: Arc<str>,
}

/// A pair as a guest has seen it.
#[derive(Clone, Debug)]
pub struct Seen {
    bucket: Bucket,
    key: String,
    state: Option<(Version, Vec<u8>)>,
}

/// Why a bucket cannot be used, for both drafts.
enum Fault {
    AccessDenied,
    Other(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<Fault> for draft::store::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::AccessDenied => Self::AccessDenied,
            Fault::Other(cause) => Self::Other(cause),
        }
    }
}

impl From<Fault> for draft2::store::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::AccessDenied => Self::AccessDenied,
            Fault::Other(cause) => Self::Other(cause),
        }
    }
}

type Host<'a> = Access<'a, HostState, HasSelf<HostState>>;

fn open(mut host: Host<'_>, identifier: &str) -> wasmtime::Result<Result<Resource<Bucket>, Fault>> {
    let environment = Arc::clone(&host.get().environment);
    if !environment.manifest.capabilities.keyvalue {
        return Ok(Err(Fault::AccessDenied));
    }
    let opened = Pairs::bucket(identifier).and_then(|name| {
        let pairs = environment.pairs().map_err(|error| StoreError::Other(error.to_string()))?;
        Ok(Bucket { pairs: pairs.clone(), name })
    });
    match opened {
        Ok(bucket) => Ok(Ok(host.get().ctx().table.push(bucket)?)),
        Err(error) => Ok(Err(error.into())),
    }
}

/// A bucket and for whom it is used now.
fn bucket(
    mut store: StoreContextMut<'_, HostState>,
    bucket: &Resource<Bucket>,
) -> wasmtime::Result<(Bucket, Claim)> {
    let found = store.data_mut().ctx().table.get(bucket)?.clone();
    Ok((found, claim(store)?))
}

async fn list(
    mut host: Host<'_>,
    resource: Resource<Bucket>,
    after: u64,
) -> wasmtime::Result<Result<(Vec<String>, Option<u64>), Fault>> {
    let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
    Ok(pairs.list(&claim, &name, after).await.map_err(Fault::from))
}

/// The functions that are the same in both drafts.
macro_rules! implement {
    ($draft:ident) => {
        impl $draft::store::Host for HostState {}
        impl $draft::store::HostBucket for HostState {
            fn drop(&mut self, resource: Resource<Bucket>) -> wasmtime::Result<()> {
                self.ctx().table.delete(resource)?;
                Ok(())
            }
        }
        impl $draft::atomics::Host for HostState {}
        impl $draft::batch::Host for HostState {}

        impl $draft::store::HostWithStore<HostState> for HasSelf<HostState> {
            async fn open(
                host: Host<'_>,
                identifier: String,
            ) -> wasmtime::Result<Result<Resource<Bucket>, $draft::store::Error>> {
                Ok(open(host, &identifier)?.map_err(Into::into))
            }
        }

        impl $draft::store::HostBucketWithStore<HostState> for HasSelf<HostState> {
            async fn get(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<Option<Vec<u8>>, $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                Ok(pairs.get(&claim, &name, key).await.map_err(|error| Fault::from(error).into()))
            }

            async fn set(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                let done = pairs.set(&claim, &name, vec![(key, value)]).await;
                Ok(done.map_err(|error| Fault::from(error).into()))
            }

            async fn delete(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                let done = pairs.delete(&claim, &name, vec![key]).await;
                Ok(done.map_err(|error| Fault::from(error).into()))
            }

            async fn exists(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<bool, $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                let found = pairs.exists(&claim, &name, key).await;
                Ok(found.map_err(|error| Fault::from(error).into()))
            }

            implement!(@list $draft);
        }

        impl $draft::batch::HostWithStore<HostState> for HasSelf<HostState> {
            implement!(@get_many $draft);

            async fn set_many(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                key_values: Vec<(String, Vec<u8>)>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                let done = pairs.set(&claim, &name, key_values).await;
                Ok(done.map_err(|error| Fault::from(error).into()))
            }

            async fn delete_many(
                mut host: Host<'_>,
                resource: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
                let done = pairs.delete(&claim, &name, keys).await;
                Ok(done.map_err(|error| Fault::from(error).into()))
            }
        }
    };
    (@list draft) => {
        async fn list_keys(
            host: Host<'_>,
            resource: Resource<Bucket>,
            cursor: Option<u64>,
        ) -> wasmtime::Result<Result<draft::store::KeyResponse, draft::store::Error>> {
            let page = list(host, resource, cursor.unwrap_or(0)).await?;
            Ok(page
                .map(|(keys, cursor)| draft::store::KeyResponse { keys, cursor })
                .map_err(Into::into))
        }
    };
    (@list draft2) => {
        async fn list_keys(
            host: Host<'_>,
            resource: Resource<Bucket>,
            cursor: Option<String>,
        ) -> wasmtime::Result<Result<draft2::store::KeyResponse, draft2::store::Error>> {
            let after = match cursor.as_deref().map(str::parse) {
                None => 0,
                Some(Ok(after)) => after,
                Some(Err(_)) => {
                    let cause = "the cursor is none that list-keys gave".to_owned();
                    return Ok(Err(draft2::store::Error::Other(cause)));
                }
            };
            let page = list(host, resource, after).await?;
            Ok(page
                .map(|(keys, cursor)| draft2::store::KeyResponse {
                    keys,
                    cursor: cursor.map(|cursor| cursor.to_string()),
                })
                .map_err(Into::into))
        }
    };
    (@get_many draft) => {
        async fn get_many(
            mut host: Host<'_>,
            resource: Resource<Bucket>,
            keys: Vec<String>,
        ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, draft::store::Error>> {
            let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
            let found = pairs.get_many(&claim, &name, keys).await;
            let paired = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
            Ok(found
                .map(|found| found.into_iter().map(paired).collect())
                .map_err(|error| Fault::from(error).into()))
        }
    };
    (@get_many draft2) => {
        async fn get_many(
            mut host: Host<'_>,
            resource: Resource<Bucket>,
            keys: Vec<String>,
        ) -> wasmtime::Result<Result<Vec<(String, Option<Vec<u8>>)>, draft2::store::Error>> {
            let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
            let found = pairs.get_many(&claim, &name, keys).await;
            Ok(found.map_err(|error| Fault::from(error).into()))
        }
    };
}

implement!(draft);
implement!(draft2);

async fn increment(
    mut host: Host<'_>,
    resource: Resource<Bucket>,
    key: String,
    delta: Delta,
) -> wasmtime::Result<Result<i128, Fault>> {
    let (Bucket { pairs, name }, claim) = bucket(host.as_context_mut(), &resource)?;
    Ok(pairs.increment(&claim, &name, key, delta).await.map_err(Fault::from))
}

impl draft::atomics::HostWithStore<HostState> for HasSelf<HostState> {
    async fn increment(
        host: Host<'_>,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, draft::store::Error>> {
        let sum = increment(host, bucket, key, Delta::Unsigned(delta)).await?;
        Ok(sum.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX)).map_err(Into::into))
    }
}

impl draft2::atomics::HostCas for HostState {
    fn drop(&mut self, cas: Resource<Seen>) -> wasmtime::Result<()> {
        self.ctx().table.delete(cas)?;
        Ok(())
    }
}

impl draft2::atomics::HostWithStore<HostState> for HasSelf<HostState> {
    async fn increment(
        host: Host<'_>,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, draft2::store::Error>> {
        let sum = increment(host, bucket, key, Delta::Signed(delta)).await?;
        Ok(sum.map(|sum| i64::try_from(sum).unwrap_or(i64::MAX)).map_err(Into::into))
    }

    async fn swap(
        mut host: Host<'_>,
        cas: Resource<Seen>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), draft2::atomics::CasError>> {
        use draft2::atomics::CasError;

        let Seen { bucket, key, state } = host.get().ctx().table.delete(cas)?;
        let claim = claim(host.as_context_mut())?;
        let seen = state.map(|(version, _)| version);
        let Bucket { pairs, name } = &bucket;
        match pairs.swap(&claim, name, key.clone(), seen, value).await {
            Ok(Swap::Done) => Ok(Ok(())),
            Ok(Swap::Changed(state)) => {
                let seen = host.get().ctx().table.push(Seen { bucket, key, state })?;
                Ok(Err(CasError::CasFailed(seen)))
            }
            Err(error) => Ok(Err(CasError::StoreError(Fault::from(error).into()))),
        }
    }
}

impl draft2::atomics::HostCasWithStore<HostState> for HasSelf<HostState> {
    async fn new(
        mut host: Host<'_>,
        resource: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Seen>, draft2::store::Error>> {
        let (bucket, claim) = bucket(host.as_context_mut(), &resource)?;
        match bucket.pairs.state(&claim, &bucket.name, key.clone()).await {
            Ok(state) => Ok(Ok(host.get().ctx().table.push(Seen { bucket, key, state })?)),
            Err(error) => Ok(Err(Fault::from(error).into())),
        }
    }

    async fn current(
        mut host: Host<'_>,
        cas: Resource<Seen>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, draft2::store::Error>> {
        let seen = host.get().ctx().table.get(&cas)?;
        Ok(Ok(seen.state.as_ref().map(|(_, value)| value.clone())))
    }
}
