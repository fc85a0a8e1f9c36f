import getpass

from flask import Flask

app = Flask(__name__)


@app.route("/")
def name():
    return f"Hello from {getpass.getuser()}\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=9090)
