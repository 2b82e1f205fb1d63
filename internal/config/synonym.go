package config

import (
	"fmt"
	"strings"
)

// synonyms are what other programs call a key, in their configuration files and in their users' heads.
var synonyms = map[string]string{
	"listen_address": "listen", "listen_port": "listen", "listen_host": "listen", "bind": "listen",
	"bind_address": "listen", "address": "listen",
	"host": "server", "server_host": "server", "server_address": "server", "server_port": "server",
	"target":   "server",
	"upstream": "server", "backend": "server", "destination": "server", "dest": "server", "to": "server",
	"pasv_ports": "passive_ports", "data_ports": "passive_ports",
	"pasv_min_port": "passive_ports", "pasv_max_port": "passive_ports", "passive_port_range": "passive_ports",
	"external_ip": "advertise", "public_ip": "advertise", "pasv_address": "advertise",
	"masquerade_address": "advertise", "masqueradeaddress": "advertise",
	"allow": "clients", "allowed": "clients", "sources": "clients", "from": "clients",
	"iface": "interface", "device": "interface", "dev": "interface",
	"max_clients": "max_sessions", "max_connections": "max_sessions", "max_per_ip": "max_sessions_per_client",
	"timeout": "idle_time", "idle_timeout": "idle_time", "idle_session_timeout": "idle_time",
	"certificate": "tls.cert", "cert_file": "tls.cert", "ssl_cert": "tls.cert", "rsa_cert_file": "tls.cert",
	"private_key": "tls.key", "key_file": "tls.key", "rsa_private_key_file": "tls.key",
}

// Synonym returns the key of the file that a word of another program's configuration stands for; empty: none.
func Synonym(word string) string {
	return synonyms[strings.ReplaceAll(strings.ToLower(word), "-", "_")]
}

// portHint is what a key "port" gets: there are two ports, and each stands behind its address.
const portHint = `the port stands in listen and in server, like listen = "192.168.5.2:2121"`

// synonymHint says what an unknown key is called here; empty: it is unknown.
func synonymHint(name string) string {
	if name == "port" {
		return ": " + portHint
	}
	if key := Synonym(name); key != "" {
		return fmt.Sprintf(": it is called %q", key)
	}
	return ""
}
