//! How does a credential helper talk?
//!
//! `docker-credential-NAME get|store|erase` with the server's address or a JSON object on its standard input. A helper
//! that knows nothing says so on its standard output and fails; the user name `<token>` marks an identity token.

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Credential, CredentialError};

const TOKEN_USER: &str = "<token>";
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

pub(super) async fn get(program: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let output = match run(program, "get", server.as_bytes()).await {
        Ok(output) => output,
        Err(CredentialError::Helper { said, .. }) if said.contains(NOT_FOUND) => return Ok(None),
        Err(error) => return Err(error),
    };
    let answer: Answer = serde_json::from_slice(&output).map_err(|error| CredentialError::Helper {
        program: program.to_owned(),
        action: "get",
        said: format!("its answer is malformed: {error}"),
    })?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credential::Identity(answer.secret),
        "" if answer.secret.is_empty() => return Ok(None),
        _ => Credential::Password { username: answer.username, password: answer.secret },
    }))
}

pub(super) async fn store(program: &str, server: &str, credential: &Credential) -> Result<(), CredentialError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::Identity(token) | Credential::Registry(token) => (TOKEN_USER, token),
    };
    let answer = Answer { server_url: server.to_owned(), username: username.to_owned(), secret: secret.clone() };
    let input = serde_json::to_vec(&answer).expect("three texts become JSON");
    run(program, "store", &input).await.map(drop)
}

pub(super) async fn erase(program: &str, server: &str) -> Result<(), CredentialError> {
    match run(program, "erase", server.as_bytes()).await {
        Err(CredentialError::Helper { said, .. }) if said.contains(NOT_FOUND) => Ok(()),
        other => other.map(drop),
    }
}

async fn run(program: &str, action: &'static str, input: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let start = |source| CredentialError::HelperStart { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    // A helper may answer without reading: a closed pipe is no failure, its status decides.
    drop(stdin.write_all(input).await);
    drop(stdin);
    let output = child.wait_with_output().await.map_err(start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let said = String::from_utf8_lossy(said).trim().to_owned();
    Err(CredentialError::Helper { program: program.to_owned(), action, said })
}
