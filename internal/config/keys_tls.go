package config

import (
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
)

func tlsKeys() []Key {
	return inTable(tlsTable, slices.Concat(clientTLSKeys(), clientCertificateKeys(), serverTLSKeys())...)
}

func clientTLSKeys() []Key {
	return []Key{
		word(Key{Name: "tls.client", Needs: NeedProxy, Example: `"required"`,
			Help: "TLS with clients",
			Doc: `TLS with clients: "off", "optional" (for those that ask with AUTH) or "required" (no` +
				` login and no data in clear)`,
		}, func(v values) *forward.ClientTLS { return &v.TLS.Client }),
		boolean(Key{Name: "tls.implicit", Needs: NeedClientTLS,
			Help: "clients begin with TLS, without AUTH, as at port 990",
			Doc:  `'true': clients begin with TLS, without AUTH, as at port 990. Needs 'client = "required"'`,
		}, false, func(v values) *bool { return &v.TLS.Implicit }),
		file(Key{Name: "tls.cert", Needs: NeedClientTLS, Example: `"/etc/ftpgate/cert.pem"`,
			Otherwise: mustBeGiven + " with 'client'",
			Help:      "the gateway's certificate, a PEM file; or self-signed, to try things out",
			Doc: `the gateway's certificate and the chain to its authority, a PEM file; or "self-signed":` +
				` ftpgate makes a certificate and keeps it, to try things out`,
		}, func(v values) *string { return &v.TLS.Cert }),
		file(Key{Name: "tls.key", Needs: NeedClientTLS, Example: `"/etc/ftpgate/key.pem"`,
			Otherwise: "in the file of 'cert'",
			Help:      "its private key, a PEM file",
		}, func(v values) *string { return &v.TLS.Key }),
		list(Key{Name: "tls.names", flag: "tls-name", Needs: NeedClientTLS, Argument: "NAME",
			Example:   `["ftp.example.com"]`,
			Otherwise: "any",
			Help:      "names that clients may ask for (SNI); repeatable",
			Doc: "the names that clients may ask for in their TLS handshakes (SNI), '*.' for any one " +
				"label; others" +
				" are refused, those that ask for none are not",
		}, parseTLSName, func(v values) *[]string { return &v.TLS.Names }),
		boolean(Key{Name: "tls.session_reuse", Needs: NeedClientTLS,
			Help: "clients' data connections must resume their TLS session",
			Doc: `'true': a data connection of a client must resume the TLS session of its control` +
				` connection`,
		}, true, func(v values) *bool { return &v.TLS.SessionReuseOptional }),
		boolean(Key{Name: "tls.ccc", Needs: NeedClientTLS,
			Help: "clients may return to a control connection in clear (CCC)",
			Doc:  `'true': clients may return to a control connection in clear (CCC)`,
		}, false, func(v values) *bool { return &v.TLS.CCC }),
		choice(Key{Name: "tls.client_close_notify", Needs: NeedClientTLS,
			Help: "close_notify after clients' data",
			Doc:  `whether data of clients must end as TLS ends, with close_notify: "required" or "optional"`,
		}, "required", "optional", func(v values) *bool { return &v.TLS.ClientCloseNotifyOptional }),
		word(Key{Name: "tls.client_min_version", Needs: NeedClientTLS, Example: `"1.3"`,
			Help: "clients' oldest TLS",
			Doc: `the oldest version of TLS that clients may use: "1.2" or "1.3"; "1.0" or "1.1" for` +
				` [old devices](#old-devices)`,
		}, func(v values) *forward.TLSVersion { return &v.TLS.ClientMinVersion }),
	}
}

// clientCertificateKeys are the keys about what clients present.
func clientCertificateKeys() []Key {
	return []Key{
		file(Key{Name: "tls.client_ca", Needs: NeedClientTLS, Example: `"/etc/ftpgate/clients-ca.pem"`,
			Otherwise: none,
			Help:      "clients need a certificate of these authorities, a PEM file",
			Doc: "clients need a certificate, and these are its authorities, a PEM file; it may name" +
				" clients' own certificates, too",
		}, func(v values) *string { return &v.TLS.ClientCA }),
		choice(Key{Name: "tls.client_auth", Needs: NeedClientTLS,
			Help: "clients' certificates",
			Doc: `with 'client_ca': whether a client must present a certificate, "required" or` +
				` "optional". One that is presented must be good in any case`,
		}, "required", "optional", func(v values) *bool { return &v.TLS.ClientAuthOptional }),
		file(Key{Name: "tls.client_crl", Needs: NeedClientTLS, Example: `"/etc/ftpgate/clients-crl.pem"`,
			Otherwise: none,
			Help:      "which clients' certificates are revoked, a PEM file",
			Doc: "with 'client_ca': which certificates are revoked (CRL), a PEM file with the list of each" +
				" authority",
		}, func(v values) *string { return &v.TLS.ClientCRL }),
	}
}

func serverTLSKeys() []Key {
	return []Key{
		word(Key{Name: "tls.server", Needs: NeedProxy, Example: `"required"`,
			Help: "TLS with the server",
			Doc: `TLS with the server: "off", "required" (with AUTH TLS, or no session at all) or` +
				` "implicit" (from the first byte, port 990)`,
		}, func(v values) *forward.ServerTLS { return &v.TLS.Server }),
		choice(Key{Name: "tls.server_data", Needs: NeedServerTLS,
			Help: "data connections with the server",
			Doc:  `data connections with the server: "private" (TLS) or "clear"`,
		}, "private", "clear", func(v values) *bool { return &v.TLS.ServerDataClear }),
		file(Key{Name: "tls.ca", Needs: NeedServerTLS, Example: `"/etc/ftpgate/ca.pem"`,
			Otherwise: "this host's authorities",
			Help:      "the server's authorities or certificate, PEM",
			Doc: "a PEM file that is trusted for the server's certificate: authorities, or the server's own" +
				" certificate, which then needs no name",
		}, func(v values) *string { return &v.TLS.CA }),
		custom(Key{Name: "tls.server_name", Needs: NeedServerTLS, Argument: "NAME",
			Example:   `"ftp.example.com"`,
			Otherwise: "the server's host",
			Help:      "the name in the server's certificate",
			Doc:       "the name that the server's certificate must have: a host name or an address",
			isSet:     func(v values) bool { return v.TLS.ServerName != "" },
		}, func(v values, text string) error {
			err := forward.CheckServerName(text)
			if err == nil {
				v.TLS.ServerName = text
			}
			return err
		}),
		file(Key{Name: "tls.client_cert", Needs: NeedServerTLS, Example: `"/etc/ftpgate/client.pem"`,
			Otherwise: none,
			Help:      "the client certificate to present to the server, a PEM file",
		}, func(v values) *string { return &v.TLS.ClientCert }),
		file(Key{Name: "tls.client_key", Needs: NeedServerTLS, Example: `"/etc/ftpgate/client-key.pem"`,
			Otherwise: "in the file of 'client_cert'",
			Help:      "its private key, a PEM file",
		}, func(v values) *string { return &v.TLS.ClientKey }),
		choice(Key{Name: "tls.verify", Needs: NeedServerTLS,
			Help: "how to verify the server's certificate",
			Doc:  `"full": the server's certificate must be good. "insecure": any will do`,
		}, "full", "insecure", func(v values) *bool { return &v.TLS.Insecure }),
		choice(Key{Name: "tls.server_close_notify", Needs: NeedServerTLS,
			Help: "close_notify after the server's data",
			Doc:  `as 'client_close_notify', for data of the server: "required" or "optional"`,
		}, "required", "optional", func(v values) *bool { return &v.TLS.ServerCloseNotifyOptional }),
		word(Key{Name: "tls.server_min_version", Needs: NeedServerTLS, Example: `"1.3"`,
			Help: "the server's oldest TLS",
			Doc: `the oldest version of TLS that the server may use: "1.2" or "1.3"; "1.0" or "1.1" for` +
				` [old devices](#old-devices)`,
		}, func(v values) *forward.TLSVersion { return &v.TLS.ServerMinVersion }),
	}
}

func parseTLSName(text string) (string, error) {
	return strings.ToLower(text), forward.CheckTLSName(text)
}
