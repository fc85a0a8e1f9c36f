//! Which images are found in archives that others wrote?

#![expect(clippy::unwrap_used, reason = "what is wrong in a test fails the test, in its helpers too")]

use std::collections::BTreeMap;

use rbuild_core::Platform;
use rbuild_engine::prune::CollectLimits;
use rbuild_engine::{Config, Engine, Error, LayerForm};
use rbuild_image::{Descriptor, Family, ImageConfig, Index, Manifest, layout, media};

/// An OCI image layout as a tar.
#[derive(Default)]
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.0.insert(layout::blob_path(&descriptor.digest), bytes);
        descriptor
    }

    /// An image without layers, told apart from others by its author.
    fn image(&mut self, author: &str, platform: &str) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let config = ImageConfig {
            author: Some(author.to_owned()),
            os: platform.os.clone(),
            architecture: platform.arch.clone(),
            ..ImageConfig::default()
        };
        let config = self.blob(media::OCI_CONFIG, serde_json::to_vec(&config).unwrap());
        let (bytes, _) = Manifest::new(Family::Oci, config, Vec::new()).to_bytes();
        self.blob(media::OCI_MANIFEST, bytes).with_platform(platform)
    }

    fn index(&mut self, entries: Vec<Descriptor>) -> Descriptor {
        let (bytes, _) = Index::new(Family::Oci, entries).to_bytes();
        self.blob(media::OCI_INDEX, bytes)
    }

    fn load(mut self, entries: Vec<Descriptor>) -> Result<Vec<(String, String)>, Error> {
        self.0.insert(layout::INDEX.to_owned(), Index::new(Family::Oci, entries).to_bytes().0);
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, &content[..]).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let root = tempfile::tempdir().unwrap();
        let config = Config {
            root: root.path().to_owned(),
            rootless: false,
            insecure_registries: Vec::new(),
            collect: CollectLimits::default(),
            layers: LayerForm::default(),
        };
        let engine = Engine::open(config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = runtime.block_on(engine.load(&mut &bytes[..]))?;
        let author = |name: &String| engine.inspect_image(name).unwrap()["Author"].as_str().unwrap().to_owned();
        Ok(names.iter().map(|name| (name.clone(), author(name))).collect())
    }
}

fn named(descriptor: Descriptor, name: &str) -> Descriptor {
    layout::named(descriptor, &name.parse().unwrap())
}

fn host() -> String {
    Platform::host().to_string()
}

#[test]
fn an_image_with_attestations_keeps_its_name() {
    let mut layout = Layout::default();
    let image = layout.image("me", &host());
    let mut attestation = layout.image("buildx", "unknown/unknown");
    attestation.annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
    let index = layout.index(vec![image, attestation]);
    let loaded = layout.load(vec![named(index, "docker.io/library/a:1")]).unwrap();
    assert_eq!(loaded, [("a:1".to_owned(), "me".to_owned())]);
}

#[test]
fn of_several_platforms_the_one_that_runs_here_is_loaded() {
    let mut layout = Layout::default();
    let images = vec![layout.image("other", "plan9/mips"), layout.image("here", &host())];
    let index = layout.index(images);
    let loaded = layout.load(vec![named(index, "docker.io/library/a:1")]).unwrap();
    assert_eq!(loaded, [("a:1".to_owned(), "here".to_owned())]);
}

#[test]
fn every_image_of_the_outer_index_is_loaded() {
    let mut layout = Layout::default();
    let (one, two) = (layout.image("one", &host()), layout.image("two", "plan9/mips"));
    let loaded = layout.load(vec![named(one, "docker.io/library/a:1"), named(two, "docker.io/library/a:2")]).unwrap();
    assert_eq!(loaded, [("a:1".to_owned(), "one".to_owned()), ("a:2".to_owned(), "two".to_owned())]);
}

#[test]
fn an_index_that_names_itself_is_refused() {
    let mut layout = Layout::default();
    let mut inner = layout.index(Vec::new());
    let (bytes, _) = Index::new(Family::Oci, vec![inner.clone().with_platform(Platform::host())]).to_bytes();
    inner.size = bytes.len() as u64;
    layout.0.insert(layout::blob_path(&inner.digest), bytes);
    assert!(matches!(layout.load(vec![inner]), Err(Error::Malformed { what: "blob", .. })));
}
