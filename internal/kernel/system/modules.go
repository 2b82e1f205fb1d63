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

// ModuleState is what became of a kernel module.
type ModuleState uint8

const (
	// ModuleUnknown: it can't be told whether the kernel has it.
	ModuleUnknown ModuleState = iota
	// ModulePresent: built into the kernel, or loaded before.
	ModulePresent
	// ModuleLoaded: loaded by this call.
	ModuleLoaded
	// ModuleMissing: the kernel does not have it now, and it could not be loaded.
	ModuleMissing
)

var moduleStates = []string{
	ModuleUnknown: "unknown", ModulePresent: "present", ModuleLoaded: "loaded", ModuleMissing: "missing",
}

// String returns one word.
func (s ModuleState) String() string {
	if int(s) < len(moduleStates) {
		return moduleStates[s]
	}
	return fmt.Sprintf("ModuleState(%d)", uint8(s))
}

// Module is what LoadModules found or did.
type Module struct {
	Name  string
	State ModuleState
	Why   string // of a module that is missing or unknown: the reason, for the operator
}

// LoadModules sees to it that the kernel has the modules, and returns a result for each, in order.
// It runs modprobe(8) for those that the kernel does not have, so ctx should have a deadline.
// Only the kernel's word counts: a modprobe that reports success and loads nothing, as the
// "install NAME /bin/true" of hardened hosts makes it do, is a module missing.
func LoadModules(ctx context.Context, names ...string) []Module {
	h := host{root: os.DirFS("/"), release: release(), modprobe: modprobe}
	modules := make([]Module, len(names))
	for i, name := range names {
		modules[i] = h.load(ctx, name)
	}
	return modules
}

// host is what LoadModules needs of one.
type host struct {
	root     fs.FS  // the file system from /
	release  string // of the kernel, as in uname -r; empty: not known
	modprobe func(ctx context.Context, name string) error
}

// errNoModprobe says that there is no program to load modules with.
var errNoModprobe = errors.New("modprobe is not installed")

func (h host) load(ctx context.Context, name string) Module {
	if !isModuleName(name) {
		return Module{name, ModuleMissing, fmt.Sprintf("%q is no module's name", name)}
	}
	name = strings.ReplaceAll(name, "-", "_") // the kernel's own spelling
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

// answer is yes, no, or can't tell.
type answer uint8

const (
	cannotTell answer = iota
	no
	yes
)

// loaded tells whether the kernel lists name: loaded, or built in and with parameters or a version.
func (h host) loaded(name string) bool {
	if _, err := fs.Stat(h.root, "sys/module/"+name); err == nil {
		return true
	}
	return h.scan("proc/modules", func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(name+" "))
	}) == yes
}

// showsLoaded tells whether loaded can see a module that is loaded.
func (h host) showsLoaded() bool {
	for _, path := range []string{"sys/module", "proc/modules"} {
		if _, err := fs.Stat(h.root, path); err == nil {
			return true
		}
	}
	return false
}

// listedBuiltin looks name up in the list of built-in modules that comes with a kernel's modules.
func (h host) listedBuiltin(name string) answer {
	if h.release == "" {
		return cannotTell
	}
	for _, dir := range []string{"lib/modules/", "usr/lib/modules/"} {
		// Lines are like kernel/net/netfilter/nf_conntrack_ftp.ko, in either spelling.
		found := h.scan(dir+h.release+"/modules.builtin", func(line []byte) bool {
			file := line[bytes.LastIndexByte(line, '/')+1:]
			return strings.ReplaceAll(string(file), "-", "_") == name+".ko"
		})
		if found != cannotTell {
			return found
		}
	}
	return cannotTell
}

// hasSymbols looks in the kernel's symbol table, the only trace of a built-in module without
// parameters where no list of modules is installed. Proof is the function NAME_init, which the ftp
// helpers have though not every module: a name that merely begins so can belong to another
// (nf_nat_ftp_hook is nf_conntrack_ftp's). Lines are like
// "ffffffff837e7ae0 t nf_nat_ftp_init", and end in the module's name in brackets if one is loaded.
func (h host) hasSymbols(name string) answer {
	return h.scan("proc/kallsyms", func(line []byte) bool {
		if !bytes.Contains(line, []byte(name)) { // of some 200,000 lines
			return false
		}
		fields := strings.Fields(string(line))
		if len(fields) == 4 {
			return fields[3] == "["+name+"]"
		}
		if len(fields) != 3 {
			return false
		}
		symbol, _, _ := strings.Cut(fields[2], ".") // compilers add .cfi_jt, .llvm.123
		return symbol == name+"_init"
	})
}

// scan tells whether a line of the file matches. A file that can't be read, or that is empty as
// containers mask them, can't tell.
func (h host) scan(path string, matches func(line []byte) bool) answer {
	f, err := h.root.Open(path)
	if err != nil {
		return cannotTell
	}
	defer f.Close()
	result := cannotTell
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if matches(lines.Bytes()) {
			return yes
		}
		result = no
	}
	if lines.Err() != nil {
		return cannotTell
	}
	return result
}

// modprobe runs modprobe(8); its error is what the program complained of, in one line.
func modprobe(ctx context.Context, name string) error {
	path, err := findModprobe()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second // for what an "install" line has started and left behind
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("modprobe %s: %w", name, context.Cause(ctx))
	}
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); lines[len(lines)-1] != "" {
		return errors.New(strings.TrimSpace(lines[len(lines)-1]))
	}
	return fmt.Errorf("modprobe %s: %w", name, err)
}

// findModprobe looks in PATH, and where ordinary users' PATH does not lead.
func findModprobe() (string, error) {
	for _, name := range []string{"modprobe", "/sbin/modprobe", "/usr/sbin/modprobe"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoModprobe
}

// release returns the running kernel's, and "" where it can't be told.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// isModuleName keeps everything out that is a path or an option.
func isModuleName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != "" && name[0] != '-'
}
