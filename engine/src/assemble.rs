//! Which configuration does a finished image have?
//!
//! Lowering wrote everything but the layers' diff IDs and the times. Times come from the layers: a step keeps the time
//! at which it was executed, so that a build whose every step is cached gives the same bytes, the same image ID.

use jiff::Timestamp;
use rayon::prelude::*;
use rbuild_cache::{Layer, LayerId, Store};
use rbuild_core::Digest;
use rbuild_image::ImageConfig;

use crate::error::Error;

/// What the configuration says about one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerFact {
    /// sha256 of its uncompressed tar.
    pub(crate) diff_id: Digest,
    /// When it was made.
    pub(crate) created: Timestamp,
}

/// What is known of a layer: what the configuration says about it, and how long its plain tar is.
type Fact = (LayerFact, u64);

/// The facts about `layers`, if nothing has to be read for them.
pub(crate) fn known_facts(store: &Store, layers: &[LayerId]) -> Result<Option<Vec<Fact>>, Error> {
    layers.iter().map(|id| Ok(known(&store.layers().read(id)?))).collect()
}

/// The facts about `layers`. Those whose diff ID is not known yet are read, several at once.
pub(crate) fn facts(store: &Store, layers: &[LayerId]) -> Result<Vec<Fact>, Error> {
    let fact = |id: &LayerId| {
        let layer = store.layers().read(id)?;
        if let Some(fact) = known(&layer) {
            return Ok(fact);
        }
        let (diff_id, size) = store.layers().describe(id)?;
        Ok((LayerFact { diff_id, created: created(&layer) }, size))
    };
    layers.par_iter().map(fact).collect()
}

fn known(layer: &Layer) -> Option<Fact> {
    let size = layer.size.unwrap_or_else(|| layer.blobs.first().map_or(0, |blob| blob.size));
    Some((LayerFact { diff_id: layer.diff_id?, created: created(layer) }, size))
}

fn created(layer: &Layer) -> Timestamp {
    let seconds = i64::try_from(layer.created).ok();
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// Fills in diff IDs and times. `layers` are all layers, lowest first; `inherited` is how many entries of the history
/// came with the base image. With an `epoch`, every new time is that.
pub(crate) fn finish(
    mut config: ImageConfig,
    layers: &[LayerFact],
    inherited: usize,
    epoch: Option<Timestamp>,
) -> ImageConfig {
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let inherited_layers = config.history.iter().take(inherited).filter(|entry| !entry.empty_layer).count();
    let mut made = layers.iter().skip(inherited_layers);
    let mut latest = config.history.iter().take(inherited).rev().find_map(|entry| entry.created.clone());
    for entry in config.history.iter_mut().skip(inherited) {
        let time = match epoch {
            Some(epoch) => Some(epoch),
            None if entry.empty_layer => None,
            None => made.next().map(|layer| layer.created),
        };
        latest = time.map(|time| time.to_string()).or(latest);
        entry.created.clone_from(&latest);
    }
    config.created = match epoch {
        Some(epoch) => Some(epoch.to_string()),
        None => latest.or_else(|| layers.last().map(|layer| layer.created.to_string())).or(config.created),
    };
    config
}

#[cfg(test)]
mod tests {
    use rbuild_image::History;

    use super::*;

    fn entry(created: Option<&str>, empty_layer: bool) -> History {
        History { created: created.map(str::to_owned), empty_layer, ..History::default() }
    }

    fn fact(second: i64) -> LayerFact {
        LayerFact { diff_id: Digest::sha256([1; 32]), created: Timestamp::from_second(second).unwrap() }
    }

    fn config() -> ImageConfig {
        ImageConfig {
            history: vec![
                entry(Some("2000-01-01T00:00:00Z"), false),
                entry(None, true),
                entry(None, false),
                entry(None, true),
            ],
            ..ImageConfig::default()
        }
    }

    fn times(config: &ImageConfig) -> Vec<&str> {
        config.history.iter().map(|entry| entry.created.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn steps_keep_the_time_of_their_layer_and_others_that_of_the_step_before() {
        let config = finish(config(), &[fact(0), fact(60)], 1, None);
        let (base, step) = ("2000-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
        assert_eq!(times(&config), [base, base, step, step]);
        assert_eq!(config.created.as_deref(), Some(step));
        assert_eq!(config.rootfs.diff_ids.len(), 2);
    }

    #[test]
    fn an_epoch_wins_for_everything_new() {
        let config = finish(config(), &[fact(0), fact(60)], 1, Some(Timestamp::from_second(1).unwrap()));
        let epoch = "1970-01-01T00:00:01Z";
        assert_eq!(times(&config), ["2000-01-01T00:00:00Z", epoch, epoch, epoch]);
        assert_eq!(config.created.as_deref(), Some(epoch));
    }
}
