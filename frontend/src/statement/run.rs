//! What does a `RUN` say?

use super::{Arguments, Flags, Walker};
use crate::ast::{Command, Device, Network, Run, Security};
use crate::mount;

impl Walker<'_> {
    pub(super) fn run(&mut self, flags: &mut Flags, arguments: Arguments) -> Option<Run> {
        let mounts = flags.list("mount", self.sink);
        for mount in &mounts {
            if let Err(error) = mount::check(mount, self.escape) {
                self.sink.push(error);
                flags.spoil();
            }
        }
        let networks = [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
        let network = flags.choice("network", &networks, self.sink);
        let levels = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];
        let security = flags.choice("security", &levels, self.sink);
        let mut devices: Vec<Device> = Vec::new();
        for word in flags.list("device", self.sink) {
            match mount::device(&word) {
                Ok(device) => devices.push(device),
                Err(error) => {
                    self.sink.push(error);
                    flags.spoil();
                }
            }
        }
        let sound = flags.finish(self.sink);
        let command = self.command(arguments, "RUN")?;
        let empty = match &command {
            Command::Shell(line) => line.text.is_empty(),
            Command::Exec(words) => words.is_empty(),
        };
        if empty {
            // A flag may have swallowed the command.
            if sound {
                return self.missing("`RUN` requires a command".to_owned(), "RUN");
            }
            return None;
        }
        let heredocs = std::mem::take(&mut self.heredocs);
        sound.then_some(Run { mounts, network, security, devices, command, heredocs })
    }
}
