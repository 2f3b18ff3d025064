# SPDX-License-Identifier: GPL-2.0-only
"""
An agent that is played: it answers on the status socket with documents that a test gives, so that posternctl can be
shown a real kernel and an agent that believes something else, or that cannot heal what was broken by hand.
"""

import json
import os
import socket
import threading


class PlayedAgent:
    def __init__(self, run_directory, documents, sequences=None):
        """
        documents: {command: what json.dumps() can write}; sequences: {first word of a command: its answers, one after
        the other}, and then an error.
        """
        self._sequences = {word: list(answers) for word, answers in (sequences or {}).items()}
        self._path = str(run_directory / "posternd.sock")
        self.documents = documents
        if os.path.exists(self._path):
            os.unlink(self._path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self._path)

    def _answer(self, command):
        sequence = self._sequences.get(command.split(" ")[0])
        if sequence is not None:
            return sequence.pop(0) if sequence else {"error": "that was all"}
        return self.documents.get(command, {"error": "unknown command"})

    def _serve(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            with client:
                command = client.recv(4096).decode().strip()
                document = self._answer(command)
                client.sendall(json.dumps(document).encode() + b"\n")
