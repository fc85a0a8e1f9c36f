//! How are layers found, listed, written and removed in a transaction?

use rbuild_core::Digest;

use super::{DIFF_IDS, LAYERS, Layer, LayerId, Result, UNSETTLED};
use crate::error::StoreError;
use crate::meta::{Reader, Writer};
use crate::prune::condemned;
use crate::store::{self, used_key};

pub(crate) fn find(reader: &Reader<'_>, id: &LayerId) -> Result<Option<Layer>, StoreError> {
    let Some(layer) = reader.find(&LAYERS, id.as_bytes())? else { return Ok(None) };
    let last = reader.find(&store::USED, &used_key(b'l', id.as_bytes()))?;
    Ok(Some(Layer { last_used: last.unwrap_or(layer.created), ..layer }))
}

pub(crate) fn list(reader: &Reader<'_>) -> Result<Vec<Layer>, StoreError> {
    let rows = reader.list(&LAYERS, b"")?;
    rows.into_iter()
        .map(|(key, layer)| {
            let last = reader.find(&store::USED, &used_key(b'l', &key))?;
            Ok(Layer { last_used: last.unwrap_or(layer.created), ..layer })
        })
        .collect()
}

pub(crate) fn put(writer: &mut Writer<'_>, layer: &Layer) -> Result<(), StoreError> {
    condemned::spare_layer(writer, &layer.id)?;
    layer.blobs.iter().try_for_each(|blob| condemned::spare_blob(writer, &blob.digest))?;
    if let Some(diff_id) = &layer.diff_id
        && writer.find(&DIFF_IDS, diff_id.as_bytes())?.is_none()
    {
        writer.put(&DIFF_IDS, diff_id.as_bytes(), &layer.id)?;
    }
    writer.put(&LAYERS, layer.id.as_bytes(), layer)
}

pub(crate) fn remove(writer: &mut Writer<'_>, layer: &Layer) -> Result<(), StoreError> {
    if let Some(diff_id) = &layer.diff_id
        && writer.find(&DIFF_IDS, diff_id.as_bytes())?.as_ref() == Some(&layer.id)
    {
        writer.delete(&DIFF_IDS, diff_id.as_bytes())?;
    }
    writer.delete(&UNSETTLED, layer.id.as_bytes())?;
    writer.delete(&store::USED, &used_key(b'l', layer.id.as_bytes()))?;
    writer.delete(&LAYERS, layer.id.as_bytes())?;
    Ok(())
}

/// The layer that has this diff ID, or `made`.
pub(super) fn known_or(writer: &Writer<'_>, diff_id: &Digest, made: Layer) -> Result<Layer, StoreError> {
    let reader = writer.reader();
    if let Some(id) = reader.find(&DIFF_IDS, diff_id.as_bytes())?
        && let Some(layer) = reader.find(&LAYERS, id.as_bytes())?
    {
        return Ok(layer);
    }
    Ok(made)
}
