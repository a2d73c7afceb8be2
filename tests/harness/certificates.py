"""A certificate authority and server certificates by openssl, in PEM as Kafka takes it."""

import subprocess


def openssl(*arguments, cwd):
    subprocess.run(
        ["openssl", *arguments], cwd=cwd, check=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def authority(folder, name):
    """Makes NAME.pem (the CA's certificate) and NAME.key."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "30", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=folder)
    return folder / f"{name}.pem"


def server(folder, ca, hosts="DNS:localhost,IP:127.0.0.1", days=30):
    """Makes a server's key and certificate, signed by the CA, and returns both in one file, as
    `ssl.keystore.location` with `ssl.keystore.type=PEM` wants it. With days=-1 it is over."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=localhost", "-keyout", "server.key", "-out", "server.csr", cwd=folder)
    (folder / "server.ext").write_text(
        f"subjectAltName={hosts}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
            "-CAcreateserial", "-days", str(days), "-extfile", "server.ext", "-out", "server.crt",
            cwd=folder)
    both = folder / "server.pem"
    both.write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    return both
