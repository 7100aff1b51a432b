"""Serves one of the two applications with gunicorn and says where, on a free loopback port.

    python3 serve.py sync|queued PROCESSES THREADS
"""

import importlib
import sys

from gunicorn.app.base import BaseApplication

KEEP_ALIVE_S = 75
CONNECTIONS_MAX = 20_000


class Server(BaseApplication):
    def __init__(self, variant, processes, threads):
        self.variant, self.processes, self.threads = variant, processes, threads
        super().__init__()

    def load_config(self):
        settings = {
            "bind": "127.0.0.1:0",
            "workers": self.processes,
            "worker_class": "gthread",
            "threads": self.threads,
            "worker_connections": CONNECTIONS_MAX,
            "keepalive": KEEP_ALIVE_S,
            "backlog": 4_096,
            "graceful_timeout": 10,
            "loglevel": "warning",
            "when_ready": self.ready,
        }
        for key, value in settings.items():
            self.cfg.set(key, value)

    def load(self):
        return importlib.import_module(f"{self.variant}_app").create(self.threads)

    def ready(self, server):
        host, port = server.LISTENERS[0].sock.getsockname()
        print(f"{self.variant} listening on http://{host}:{port}", flush=True)


if __name__ == "__main__":
    Server(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
