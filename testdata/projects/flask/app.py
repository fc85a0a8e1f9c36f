import os
import socket

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return f"Hello {os.environ.get('NAME', 'world')} from {socket.gethostname()}\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=80)
