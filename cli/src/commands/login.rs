//! `rbuild login` and `logout`: which credentials does a registry get?

use std::io::{self, BufRead, IsTerminal, Read, Write};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;
use crate::session::{Session, note, print};

#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// Host name [default: Docker Hub]
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    registry: String,
    /// User; asked for if absent
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password; asked for if absent. Other users of this machine can see it here
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl LoginArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let username = match &self.username {
            Some(username) => username.clone(),
            None => ask("Username", Echo::On).await?,
        };
        let password = match &self.password {
            Some(password) => {
                note("`--password` can be seen by other users of this machine; `--password-stdin` cannot");
                password.clone()
            }
            None if self.password_stdin => {
                let mut text = String::new();
                let read = io::stdin().read_to_string(&mut text);
                read.map_err(|error| Failure::io("cannot read the password", error))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => ask("Password", Echo::Off).await?,
        };
        session.engine()?.login(&self.registry, &username, &password).await?;
        print("Login Succeeded\n")
    }
}

/// Whether what is typed can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Echo {
    On,
    Off,
}

/// Asks a person. The thread that waits for the line is left behind if the user gives up.
async fn ask(question: &str, echo: Echo) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let failure = Failure::usage("nobody can be asked for user and password: standard input is no terminal");
        return Err(failure.hint("give them with `--username` and `--password-stdin`"));
    }
    let _silence = (echo == Echo::Off).then(Silence::begin);
    let asked = write!(io::stderr(), "{question}: ");
    asked.map_err(|error| Failure::io("cannot ask", error))?;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(io::Error::other).and_then(|line| line);
    if echo == Echo::Off {
        // The person's own line feed was not shown.
        drop(writeln!(io::stderr()));
    }
    let line = line.map_err(|error| Failure::io("cannot read the answer", error))?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::usage("the answer is empty")),
        answer => Ok(answer.to_owned()),
    }
}

/// A terminal that does not show what is typed. Dropping it shows it again.
#[derive(Debug)]
#[must_use = "dropping it shows again what is typed"]
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        Self(tcsetattr(io::stdin(), OptionalActions::Now, &silent).is_ok().then_some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no echo.
            tcsetattr(io::stdin(), OptionalActions::Now, before).unwrap_or_default();
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct LogoutArgs {
    /// Host name [default: Docker Hub]
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    registry: String,
}

impl LogoutArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let registry = &self.registry;
        if session.engine()?.logout(registry).await? {
            print(&format!("Removing login credentials for {registry}\n"))
        } else {
            print(&format!("Not logged in to {registry}\n"))
        }
    }
}
