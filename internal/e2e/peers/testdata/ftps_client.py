# A session of Python's ftplib over TLS: list, download, upload, each over its own data connection.
# Argument: a JSON object; see newFtplib in tlsclients.go.
import ftplib
import json
import socket
import ssl
import sys

want = json.loads(sys.argv[1])


class Client(ftplib.FTP_TLS):
    trust_server_pasv_ipv4_address = want["believe"]

    def putline(self, line):
        print("> " + ("PASS ..." if line.startswith("PASS ") else line), flush=True)
        super().putline(line)

    def getline(self):
        line = super().getline()
        print("< " + line, flush=True)
        return line

    def makepasv(self):
        if want["mode"] == "PASV":
            return super().makepasv()
        return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())

    def sendport(self, host, port):
        if want["mode"] == "PORT":
            return super().sendport(host, port)
        return self.sendeprt(host, port)


class Resuming(Client):
    """With the control connection's session on the data connection, as servers may demand."""

    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:
            conn = self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session)
            print("# data: " + conn.version() + (" resumed" if conn.session_reused else " not resumed"), flush=True)
        return conn, size


context = ssl.create_default_context(cafile=want["ca"])
if want["max"]:
    context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[want["max"]]
    context.minimum_version = context.maximum_version
if want["cert"]:
    context.load_cert_chain(want["cert"], want["key"])
ftp = (Resuming if want["resume"] else Client)(context=context, timeout=20)
ftp.connect(want["host"], want["port"])
ftp.login(want["user"], want["password"])
ftp.prot_p()
ftp.set_pasv(want["mode"] in ("PASV", "EPSV"))
ftp.retrlines("LIST " + want["dir"])
with open(want["fetched"], "wb") as f:
    ftp.retrbinary("RETR " + want["file"], f.write, 1 << 16)
with open(want["sent"], "rb") as f:
    ftp.storbinary("STOR " + want["upload"], f, 1 << 16)
print(ftp.quit())
