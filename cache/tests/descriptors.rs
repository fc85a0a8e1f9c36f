//! Is a layer still there after a process could not open it?
//!
//! Alone in its process, whose limits it changes.

use rbuild_cache::{Form, LayerForm, ReadErofs, Store, StoreOptions};
use rbuild_image::sha256;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn too_many_open_files_are_no_damage() {
    let root = tempfile::tempdir().unwrap();
    let mounts: ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
    let open = || {
        let options = StoreOptions { layers: LayerForm::Erofs, read_erofs: Some(mounts), ..StoreOptions::default() };
        Store::open_with(root.path(), options).unwrap()
    };
    let (store, fresh) = (open(), open());
    let tar = [0; 1024];
    let id = store.layers().import(&sha256(&tar), &mut &tar[..]).unwrap().id;
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..usual }).unwrap();
    let results = [
        store.layers().changes(&id).map(drop),
        fresh.layers().find_intact(&id).map(drop),
        fresh.layers().view(std::slice::from_ref(&id)).map(drop),
    ];
    setrlimit(Resource::Nofile, usual).unwrap();
    for result in results {
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with("cannot read `"), "{error}");
    }
    assert_eq!(fresh.layers().read(&id).unwrap().form, Form::Erofs);
    assert!(fresh.layers().changes(&id).is_ok());
}
