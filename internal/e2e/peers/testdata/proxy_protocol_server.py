"""An FTP server that expects a PROXY protocol header: on control connections, and with --data on passive
data connections, too. It prints the client of each header."""

import argparse
import socket
import struct

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, PassiveDTP
from pyftpdlib.servers import FTPServer

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def exactly(sock, n):
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise ConnectionError("the header is cut short")
        data += more
    return data


def read_header(sock):
    """Returns the client's address and port, and what the client dialled; None: the gateway itself."""
    first = exactly(sock, 12)
    if first == SIGNATURE:
        command, family, length = struct.unpack("!BBH", exactly(sock, 4))
        rest = exactly(sock, length)
        if command == 0x20:
            return None
        kind, size = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}[family]
        ports = struct.unpack("!HH", rest[2 * size:2 * size + 4])
        return ((socket.inet_ntop(kind, rest[:size]), ports[0]),
                (socket.inet_ntop(kind, rest[size:2 * size]), ports[1]))
    line = first
    while not line.endswith(b"\r\n"):
        line += exactly(sock, 1)
    words = line.decode("ascii").split()
    if words[0] != "PROXY":
        raise ConnectionError("no header: %r" % line)
    if words[1] == "UNKNOWN":
        return None
    return (words[2], int(words[4])), (words[3], int(words[5]))


def identify(what, sock, addr):
    sock.setblocking(True)
    sock.settimeout(20)
    header = read_header(sock)
    sock.setblocking(False)
    if header is None:
        print("%s of the gateway %s" % (what, addr[0]), flush=True)
        return addr
    print("%s of %s, which dialled %s port %d" % (what, header[0][0], header[1][0], header[1][1]), flush=True)
    return header[0]


class Passive(PassiveDTP):
    def handle_accepted(self, sock, addr):
        super().handle_accepted(sock, identify("data", sock, addr))


class Handler(FTPHandler):
    def __init__(self, conn, server, ioloop=None):
        super().__init__(conn, server, ioloop=ioloop)
        self.remote_ip, self.remote_port = server.client[:2]


class Server(FTPServer):
    def handle_accepted(self, sock, addr):
        try:
            self.client = identify("session", sock, addr)
        except (OSError, KeyError, IndexError, UnicodeError) as e:
            print("refused: %s" % e, flush=True)
            sock.close()
            return
        super().handle_accepted(sock, addr)


arguments = argparse.ArgumentParser()
arguments.add_argument("--data", action="store_true")
for name in ("interface", "port", "directory", "username", "password"):
    arguments.add_argument("--" + name, required=True)
given = arguments.parse_args()
authorizer = DummyAuthorizer()
authorizer.add_user(given.username, given.password, given.directory, perm="elradfmwMT")
Handler.authorizer = authorizer
if given.data:
    Handler.passive_dtp = Passive
else:
    Handler.permit_foreign_addresses = True  # data comes from the gateway, and not from the client
Server((given.interface, int(given.port)), Handler).serve_forever()
