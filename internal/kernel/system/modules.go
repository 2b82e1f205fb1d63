package system

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ModuleState says whether the kernel has a module.
type ModuleState string

const (
	// ModuleUnknown: this process cannot see whether the kernel has it.
	ModuleUnknown ModuleState = "unknown"
	// ModulePresent: it is built into the kernel, or was loaded before.
	ModulePresent ModuleState = "present"
	// ModuleLoaded: this call loaded it.
	ModuleLoaded ModuleState = "loaded"
	// ModuleMissing: the kernel does not have it, and it could not be loaded.
	ModuleMissing ModuleState = "missing"
)

// Module is the result of LoadModules or FindModules for one module.
type Module struct {
	Name     string
	State    ModuleState
	Why      string // of LoadModules: for the operator, why it is missing or unknown
	Loadable bool   // of FindModules: the kernel does not have it, but it is installed and can be loaded
}

// LoadModules loads the modules that the kernel does not have, and returns a result for each, in their order.
// It runs modprobe(8), so ctx should have a deadline. It does not trust modprobe but looks into the kernel:
// on hardened hosts "install NAME /bin/true" makes modprobe report success without loading the module.
func LoadModules(ctx context.Context, names ...string) []Module {
	h := host{root: os.DirFS("/"), release: KernelRelease(), modprobe: modprobe}
	modules := make([]Module, len(names))
	for i, name := range names {
		modules[i] = h.load(ctx, name)
	}
	return modules
}

// host is what LoadModules uses of the host.
type host struct {
	root     fs.FS  // the file system from /
	release  string // of the kernel, as in uname -r; empty: unknown
	modprobe func(ctx context.Context, name string) error

	symbols     map[string]bool // the modules that the kernel's symbol table shows; nil: not read yet
	symbolsRead answer          // no: the table was read; unknown: it is hidden
}

var errNoModprobe = errors.New("modprobe is not installed")

func (h *host) load(ctx context.Context, name string) Module {
	if !isModuleName(name) {
		return Module{Name: name, State: ModuleMissing, Why: fmt.Sprintf("%q is no module's name", name)}
	}
	name = strings.ReplaceAll(name, "-", "_") // the kernel's spelling
	if h.loaded(name) || h.listedBuiltin(name) == yes {
		return Module{Name: name, State: ModulePresent}
	}
	tried := h.modprobe(ctx, name)
	if tried == nil && (h.loaded(name) || !h.showsLoaded()) {
		return Module{Name: name, State: ModuleLoaded}
	}
	symbols := h.hasSymbols(name)
	if symbols == yes {
		return Module{Name: name, State: ModulePresent}
	}
	m := Module{Name: name, State: ModuleUnknown, Why: "modprobe reports success but loads nothing: " +
		"look for \"install " + name + "\" in /etc/modprobe.d"}
	if tried != nil {
		m.Why = tried.Error()
	}
	if symbols == no || h.listedBuiltin(name) == no {
		m.State = ModuleMissing
	}
	return m
}

type answer uint8

const (
	unknown answer = iota
	no
	yes
)

// loaded reports whether the kernel lists a module: it is loaded, or built in with parameters or a version.
func (h host) loaded(name string) bool {
	if _, err := fs.Stat(h.root, "sys/module/"+name); err == nil {
		return true
	}
	return h.scan("proc/modules", func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(name+" "))
	}) == yes
}

// showsLoaded reports whether the kernel lists loaded modules at all.
func (h host) showsLoaded() bool {
	for _, path := range []string{"sys/module", "proc/modules"} {
		if _, err := fs.Stat(h.root, path); err == nil {
			return true
		}
	}
	return false
}

// listedBuiltin searches the list of built-in modules that is installed with a kernel's modules.
func (h host) listedBuiltin(name string) answer {
	// Lines are like kernel/net/netfilter/nf_conntrack_ftp.ko, in either spelling.
	return h.scanInstalled("modules.builtin", func(line []byte) bool {
		file := line[bytes.LastIndexByte(line, '/')+1:]
		return strings.ReplaceAll(string(file), "-", "_") == name+".ko"
	})
}

// scanInstalled is scan for a file that is installed with the modules of the running kernel.
func (h host) scanInstalled(file string, matches func(line []byte) bool) answer {
	if h.release == "" {
		return unknown
	}
	for _, dir := range []string{"lib/modules/", "usr/lib/modules/"} {
		if found := h.scan(dir+h.release+"/"+file, matches); found != unknown {
			return found
		}
	}
	return unknown
}

// hasSymbols searches the kernel's symbol table. Without an installed list of modules this is the only trace
// of a built-in module without parameters. It looks for the function NAME_init, which the ftp helpers have,
// although not every module does. Other symbols that begin with the name may belong to another module:
// nf_nat_ftp_hook is in nf_conntrack_ftp.
func (h *host) hasSymbols(name string) answer {
	if h.symbols == nil {
		h.symbols = make(map[string]bool)
		h.symbolsRead = h.scan("proc/kallsyms", h.addSymbol)
	}
	if h.symbols[name] {
		return yes
	}
	return h.symbolsRead
}

// addSymbol adds the module that a line of the symbol table shows to h.symbols. It reads on in any case: the
// kernel needs a tenth of a second to write the table, some 200,000 lines. A line is
// "ffffffff837e7ae0 t nf_nat_ftp_init"; for a loaded module it ends with the module's name in brackets.
func (h *host) addSymbol(line []byte) (stop bool) {
	if _, module, ok := bytes.Cut(line, []byte("\t[")); ok {
		h.symbols[string(bytes.TrimSuffix(module, []byte("]")))] = true
		return false
	}
	// Compilers add .cfi_jt, .llvm.123 to the symbol.
	symbol, _, _ := bytes.Cut(line[bytes.LastIndexByte(line, ' ')+1:], []byte("."))
	if name, ok := bytes.CutSuffix(symbol, []byte("_init")); ok {
		h.symbols[string(name)] = true
	}
	return false
}

// scan reports whether a line of the file matches. The answer is unknown if the file cannot be read, or is
// empty because a container masks it.
func (h host) scan(path string, matches func(line []byte) bool) answer {
	f, err := h.root.Open(path)
	if err != nil {
		return unknown
	}
	defer f.Close()
	result := unknown
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if matches(lines.Bytes()) {
			return yes
		}
		result = no
	}
	if lines.Err() != nil {
		return unknown
	}
	return result
}

// modprobe runs modprobe(8). The error is the last line of its output.
func modprobe(ctx context.Context, name string) error {
	path, err := findModprobe()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second // for processes that an "install" line has started
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("modprobe %s: %w", name, context.Cause(ctx))
	}
	text := strings.TrimSpace(string(out))
	if last := strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]); last != "" {
		return errors.New(last)
	}
	return fmt.Errorf("modprobe %s: %w", name, err)
}

// findModprobe searches PATH, and the directories that ordinary users do not have in theirs.
func findModprobe() (string, error) {
	for _, name := range []string{"modprobe", "/sbin/modprobe", "/usr/sbin/modprobe"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoModprobe
}

// KernelRelease returns the release of the running kernel, as in uname -r; empty: it is unknown.
func KernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// KernelBefore reports whether a kernel's release is older than major.minor. One without a number is not.
func KernelBefore(release string, major, minor int) bool {
	var is, part int
	_, err := fmt.Sscanf(release, "%d.%d", &is, &part)
	return err == nil && (is < major || is == major && part < minor)
}

// isModuleName reports whether name is a module's name, and not a path or an option.
func isModuleName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	return strings.Trim(name, letters) == "" && name != "" && name[0] != '-'
}
