# An FTP server whose control and data connections must be TLS (pyftpdlib).
# Arguments: a JSON object with host, port, ports, root, user, password, cert, log.
import json
import logging
import sys

from OpenSSL import SSL
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

want = json.loads(sys.argv[1])


class Handler(TLS_FTPHandler):
    certfile = want["cert"]
    tls_control_required = True
    tls_data_required = True
    passive_ports = range(want["ports"][0], want["ports"][1] + 1)
    authorizer = DummyAuthorizer()


logging.basicConfig(level=logging.DEBUG)
# Its own are the newest that both sides know.
versions = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
if want["max"]:
    Handler.ssl_context = context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate_chain_file(want["cert"])
    context.use_privatekey_file(want["cert"])
    context.set_max_proto_version(versions[want["max"]])
Handler.authorizer.add_user(want["user"], want["password"], want["root"], perm="elradfmwMT")
FTPServer((want["host"], want["port"]), Handler).serve_forever()
