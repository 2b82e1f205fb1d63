package finding

// Remedies that several packages give, so that one cause has one remedy wherever it is found.
const (
	RemedyPrivilege = "run it as root, or as a unit with AmbientCapabilities=CAP_NET_ADMIN " +
		"CAP_NET_BIND_SERVICE"
	RemedyModules = "install the kernel's extra modules (linux-modules-extra-$(uname -r), " +
		"kernel-modules-extra)"
	RemedyListener    = "stop that program or let it listen elsewhere, or choose another port"
	RemedySelfCert    = "in production, use a certificate from an authority"
	RemedyDescriptors = "if files are too many: a session has two, and more while the relay carries data: " +
		"raise the limit (LimitNOFILE of the unit, ulimit -n)"
	RemedyServerLog = "check the server's log: it says why"
)
