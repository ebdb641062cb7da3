"""A server on loopback for downloads, with the faults of real ones."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Serves `content`, from an offset if asked; breaks off or refuses as the test wants."""

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if server.status != 200:
            self.send_error(server.status)
            return
        start, content = 0, server.content
        if self.headers.get("Range") and server.goes_on:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if start:
            first = start + server.misplaced_by
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = server.breaks_off_at or len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_):
        pass


@contextmanager
def served(content, status=200, breaks_off_at=None, goes_on=True, misplaced_by=0):
    """Serve some bytes under any name; yield the server with its address in `url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.status, server.goes_on = content, status, goes_on
    server.breaks_off_at, server.misplaced_by, server.ranges = breaks_off_at, misplaced_by, []
    server.url = f"http://127.0.0.1:{server.server_port}/Task.tar"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
