//! `rbuild inspect`: everything about an image or a container.

use clap::Args;
use rbuild_engine::Engine;
use serde_json::Value;

use crate::failure::Failure;
use crate::session::{Session, each, print};
use crate::template::Template;

#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Names or IDs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Print `json`, or a template such as `{{.Config.Env}}` or `{{json .Config}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only look at one kind
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
}

/// What is inspected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Kind {
    /// Images
    Image,
    /// Containers
    Container,
}

impl InspectArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let template = match self.format.as_deref() {
            None | Some("json") => None,
            Some(text) => Some(Template::parse(text).map_err(Failure::usage)?),
        };
        let engine = session.engine()?;
        let mut found = Vec::new();
        let result = each(&self.names, |name| {
            found.push(self.find(&engine, name)?);
            Ok(())
        });
        let text = match template {
            Some(template) => found.iter().map(|value| template.render(value) + "\n").collect(),
            None if self.format.is_some() => found.iter().map(|value| format!("{value}\n")).collect(),
            None => format!("{:#}\n", Value::Array(found)),
        };
        print(&text)?;
        result
    }

    /// Containers first, as Docker does.
    fn find(&self, engine: &Engine, name: &str) -> Result<Value, Failure> {
        let container = |name| engine.container(name).map(|container| engine.inspect_container(&container));
        match self.kind {
            Some(Kind::Image) => Ok(engine.inspect_image(name)?),
            Some(Kind::Container) => Ok(container(name)?),
            None => match (container(name), engine.inspect_image(name)) {
                (Ok(value), _) | (_, Ok(value)) => Ok(value),
                (Err(_), Err(rbuild_engine::Error::NoSuchImage(_))) => {
                    let failure = Failure::message(format!("there is no container or image `{name}`"));
                    Err(failure.hint("`rbuild ps -a` and `rbuild images` list what is there"))
                }
                (Err(_), Err(error)) => Err(error.into()),
            },
        }
    }
}
