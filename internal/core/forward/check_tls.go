package forward

// checkTLS finds the faults of how a proxy handles FTPS.
func checkTLS(f Forward, report reportFunc) {
	if f.TLS.Client != ClientTLSOff {
		checkClientTLS(f.TLS, report)
	}
	if f.TLS.Server != ServerTLSOff {
		checkServerTLS(f.TLS, report)
	}
}

// encryptsItself reports whether ftpgate itself may have to encrypt data, and returns the key that asks for
// it.
func (f Forward) encryptsItself() (key, value string, encrypts bool) {
	switch t := f.TLS; {
	case t.Client != ClientTLSOff:
		return "tls.client", t.Client.String(), true
	case t.Server != ServerTLSOff && !t.ServerDataClear:
		return "tls.server", t.Server.String(), true
	}
	return "", "", false
}

// checkClientTLS finds the faults of TLS with clients.
func checkClientTLS(t TLS, report reportFunc) {
	if t.Implicit && t.Client != ClientTLSRequired {
		report("tls.implicit", "tls.implicit begins with TLS and never has plain text: "+
			"want tls.client = \"required\", not %s", t.Client)
	}
	switch {
	case t.Cert == "":
		report("tls.cert", "tls.client %s needs a certificate: "+
			"set tls.cert to its file, or use tls.cert = %q to try things out", t.Client, SelfSigned)
	case t.Cert == SelfSigned && t.Key != "":
		report("tls.key", "with tls.cert = %q ftpgate makes the key, too: leave tls.key out", SelfSigned)
	}
	checkClientCertificates(t, report)
}

// checkClientCertificates finds the faults of what clients must present.
func checkClientCertificates(t TLS, report reportFunc) {
	switch {
	case t.ClientCA == "" && t.ClientAuthOptional:
		report("tls.client_auth", "tls.client_auth is about clients' certificates: "+
			"name their authorities with tls.client_ca, or leave tls.client_auth out")
	case t.ClientCA != "" && !t.ClientAuthOptional && t.Client != ClientTLSRequired:
		report("tls.client_ca", "tls.client_ca requires a certificate, which a client in clear has not: "+
			"want tls.client = \"required\", not %s; or tls.client_auth = \"optional\"", t.Client)
	}
	if t.ClientCA == "" && t.ClientCRL != "" {
		report("tls.client_crl", "tls.client_crl says which clients' certificates are revoked: "+
			"name their authorities with tls.client_ca, or leave tls.client_crl out")
	}
}

// checkServerTLS finds the faults of TLS with the server.
func checkServerTLS(t TLS, report reportFunc) {
	if t.ClientKey != "" && t.ClientCert == "" {
		report("tls.client_key", "tls.client_key belongs to a certificate: "+
			"name its file with tls.client_cert, or leave tls.client_key out")
	}
	if t.Insecure && t.CA != "" {
		report("tls.ca", "tls.ca sets the trusted authorities, and tls.verify = \"insecure\" accepts any "+
			"certificate: "+
			"leave one of them out")
	}
	if t.Insecure && t.ServerName != "" {
		report("tls.server_name", "tls.server_name says whose certificate is good, "+
			"and with tls.verify = \"insecure\" every one is: leave one of them out")
	}
}

// checkPassthrough finds the faults of a proxy's server_ports: the ports that a client reaches one to
// one while it has an encrypted session.
func checkPassthrough(f Forward, report reportFunc) {
	const key = "server_ports"
	switch ports, t := f.ServerPorts, f.TLS; {
	case t.Client != ClientTLSOff:
		report(key, "server_ports passes encrypted sessions through, and tls.client %s ends them here: "+
			"leave one of them out", t.Client)
	case t.Server != ServerTLSOff:
		report(key, "server_ports passes encrypted sessions through, and tls.server %s begins them here: "+
			"leave one of them out", t.Server)
	case ports.First < LowestDataPort:
		report(key, "server_ports %s: the ports below %d are those of services: "+
			"want the server's passive ports, within \"%s\"",
			ports, LowestDataPort, PortRange{LowestDataPort, 60999})
	case ports.Contains(f.Listen.Port):
		report(key, "listen port %d lies within server_ports %s: "+
			"a client with an encrypted session could not begin another one", f.Listen.Port, ports)
	case f.whyRelayOnly() != "" && int(ports.Last-ports.First) >= MaxRelayedPorts:
		report(key, "server_ports %s are %d ports, and %s at most %d can be opened: "+
			"name the server's passive ports, and no more",
			ports, ports.Last-ports.First+1, f.whyRelayOnly(), MaxRelayedPorts)
	case f.PassivePorts.IsEmpty() && ports.First <= DefaultPassivePorts.First &&
		ports.Last == DefaultPassivePorts.Last:
		report(key, "server_ports %s leave no port for data in clear: "+
			"give the forward passive_ports outside of them, or leave out some ports above %d",
			ports, DefaultPassivePorts.First)
	// else the other check reports it
	case ports.Overlaps(f.PassivePorts) && f.PassivePorts.First >= LowestDataPort:
		report("passive_ports", "passive_ports %s overlap server_ports %s of the same forward: "+
			"the first are for data in clear, the others for encrypted sessions", f.PassivePorts, ports)
	}
}

// whyRelayOnly returns why the kernel can carry no data connection of the forward; "": it may.
func (f Forward) whyRelayOnly() string {
	server, literal := f.Server.Addr()
	switch {
	case f.Data == DataRelay:
		return "with data relay"
	case literal && f.Listen.Addr.IsValid() && !f.Listen.AcceptsFamily(server):
		return "between IPv4 and IPv6"
	case f.Listen.Addr.IsLoopback():
		return "on loopback"
	}
	return ""
}
