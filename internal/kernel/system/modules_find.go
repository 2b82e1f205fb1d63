package system

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
)

// FindModules reports which of the modules the kernel has, and which it could load. It loads none.
func FindModules(names ...string) []Module {
	h := host{root: os.DirFS("/"), release: KernelRelease()}
	return h.find(names)
}

// errNotLoaded is the result of modprobe(8) if it is not run.
var errNotLoaded = errors.New("not loaded")

// otherInit has the modules whose function is not NAME_init (hasSymbols), with the name that replaces NAME.
var otherInit = map[string]string{"nf_tables": "nf_tables_module", "nf_conntrack": "nf_conntrack_standalone"}

func (h *host) find(names []string) []Module {
	h.modprobe = func(context.Context, string) error { return errNotLoaded }
	found := make([]Module, len(names))
	for i, name := range names {
		m := h.load(context.Background(), name)
		if other := otherInit[m.Name]; m.State != ModulePresent && other != "" && h.hasSymbols(other) == yes {
			m.State = ModulePresent
		}
		loadable := m.State != ModulePresent && h.installed(m.Name)
		found[i] = Module{Name: m.Name, State: m.State, Loadable: loadable}
	}
	return found
}

// installed searches the list of installed modules. A line is
// "kernel/net/netfilter/nf_nat_ftp.ko.xz: kernel/net/netfilter/nf_nat.ko.xz".
func (h host) installed(name string) bool {
	return h.scanInstalled("modules.dep", func(line []byte) bool {
		path, _, _ := bytes.Cut(line, []byte(":"))
		file, _, _ := strings.Cut(string(path[bytes.LastIndexByte(path, '/')+1:]), ".ko")
		return strings.ReplaceAll(file, "-", "_") == name
	}) == yes
}
