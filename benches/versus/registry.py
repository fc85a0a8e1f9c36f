"""A registry that a builder reaches by loopback: Debian's `docker-registry`, outside of the builder's control group."""

import pathlib
import re
import subprocess
import time

CONFIG = """version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: false}}
http: {addr: "127.0.0.1:%d"}
"""


class Registry:
    def __init__(self, directory: pathlib.Path, port: int = 0, prefix: list[str] | None = None):
        """Keeps its files in a directory; `prefix` starts its command, to bring it where the builder is."""
        self.prefix = prefix or []
        self.log = directory / "registry.log"
        config = directory / "registry.yml"
        config.write_text(CONFIG % (directory / "registry", port))
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen([*self.prefix, "docker-registry", "serve", str(config)], stdout=output,
                                            stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        self.address = self.wait()

    def wait(self) -> str:
        for _ in range(200):
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.log.read_text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"the registry does not start: {self.log.read_text()[-2000:]}")

    def fill(self, layout: str, name: str) -> None:
        """Puts in an image that nobody's push has made, so that everybody pulls the same bytes."""
        subprocess.run([*self.prefix, "skopeo", "copy", "-q", "--dest-tls-verify=false", layout,
                        f"docker://{self.address}/{name}"], check=True)

    def fetched(self) -> int:
        """How many blobs somebody has got from here so far."""
        return len(re.findall(r'"GET /v2/[^"]*/blobs/[^"]*" 200', self.log.read_text()))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
