package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

// daemons is the running ftpgates that a command asks. Close it.
type daemons struct {
	found  []*instances.Instance // at least one; those that do not answer are the last
	chosen bool                  // there is one, which a flag names; with --socket it was not asked yet
	uid    int                   // of this process

	service string // the socket of the host's gateway
}

// reach finds the ftpgates that the flags name.
func (a *adminFlags) reach(ctx context.Context) (*daemons, error) {
	if a.target != "" {
		c, err := a.client()
		if err != nil {
			return nil, err
		}
		return &daemons{found: []*instances.Instance{{Client: c, Socket: a.target}}, chosen: true}, nil
	}
	found, err := a.places.Ask(ctx)
	if err != nil {
		return nil, err
	}
	d := &daemons{found: found, uid: a.places.UID, service: a.places.Default}
	if a.instance == "" {
		return d, nil
	}
	if err := d.choose(a.instance); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *daemons) close() {
	for _, i := range d.found {
		i.Close()
	}
}

// choose leaves the one of a name.
func (d *daemons) choose(name string) error {
	var named []*instances.Instance
	for _, i := range d.found {
		if slices.Contains(namesOf(i), name) {
			named = append(named, i)
		}
	}
	switch len(named) {
	case 0:
		return fmt.Errorf("no running ftpgate is %q:\n%s", name, d.list(d.found))
	case 1:
	default:
		return fmt.Errorf("%d running ftpgates are %q: choose one with --instance PROCESS\n%s", len(named),
			name,
			d.list(named))
	}
	for _, i := range d.found {
		if i != named[0] {
			i.Close()
		}
	}
	d.found, d.chosen = named, true
	return nil
}

// namesOf returns what --instance accepts for an instance.
func namesOf(i *instances.Instance) []string {
	names := []string{strconv.Itoa(i.PID), i.Socket}
	if i.Status.File != "" {
		names = append(names, i.Status.File)
	}
	for _, f := range i.Status.Forwards {
		names = append(names, f.Name, f.Listen)
	}
	return names
}

// one returns the client of the only ftpgate, or of the one that the flags name.
func (d *daemons) one() (*admin.Client, error) {
	switch {
	case len(d.found) > 1:
		return nil, d.severalError()
	case d.found[0].Err != nil:
		return nil, errors.New(d.silence(d.found[0]))
	}
	return d.found[0].Client, nil
}

func (d *daemons) severalError() error {
	return fmt.Errorf("which ftpgate is meant? choose one with --instance PROCESS\n%s", d.list(d.found))
}

// gateway returns the client of this host's gateway: the service, or the only ftpgate with a file, or the
// only one. What other users run is none, and so cannot be in the way of a reload or a ban.
func (d *daemons) gateway() (*admin.Client, error) {
	if d.chosen {
		return d.one()
	}
	only := func(having func(*instances.Instance) bool) *daemons {
		return &daemons{found: slices.DeleteFunc(slices.Clone(d.found), func(i *instances.Instance) bool {
			return i.Foreign || !having(i)
		})}
	}
	for _, having := range []func(*instances.Instance) bool{
		func(i *instances.Instance) bool { return i.Socket == d.service },
		func(i *instances.Instance) bool { return i.Status.File != "" },
		func(*instances.Instance) bool { return true },
	} {
		if o := only(having); len(o.found) == 1 {
			return o.one()
		}
	}
	return nil, d.severalError()
}

// answering returns those that have answered so far.
func (d *daemons) answering() []*instances.Instance {
	var all []*instances.Instance
	for _, i := range d.found {
		if i.Err == nil {
			all = append(all, i)
		}
	}
	return all
}

// having returns the client of the ftpgate that has a session.
func (d *daemons) having(ctx context.Context, session string) (*admin.Client, error) {
	if len(d.found) == 1 {
		return d.one() // which says so if it does not have it
	}
	var having []*instances.Instance
	var silent []string
	for _, i := range d.found {
		err := i.Err
		if err == nil {
			_, err = i.Explain(ctx, session)
		}
		switch {
		case err == nil:
			having = append(having, i)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, admin.ErrNoSession):
			silent = append(silent, fmt.Sprintf("\n%s: %v", d.describe(i), err))
		}
	}
	switch len(having) {
	case 0:
		return nil, fmt.Errorf("no running ftpgate has a session %s%s", session, strings.Join(silent, ""))
	case 1:
		return having[0].Client, nil
	}
	return nil, fmt.Errorf("%d running ftpgates have a session %s: choose one with --instance PROCESS\n%s",
		len(having), session, d.list(having))
}

// list describes instances, one a line.
func (d *daemons) list(all []*instances.Instance) string {
	var lines []string
	for _, i := range all {
		lines = append(lines, "  "+d.describe(i))
	}
	return strings.Join(lines, "\n")
}

// describe says which instance it is: its process, its user if that is another one, and what it serves.
func (d *daemons) describe(i *instances.Instance) string {
	text := "process " + strconv.Itoa(i.PID)
	if i.UID != d.uid {
		text += " of user " + userName(i.UID)
	}
	switch forwards := i.Status.Forwards; {
	case i.Status.File != "":
		return text + ": " + i.Status.File
	case len(forwards) == 1:
		return text + ": forward " + forwardTitle(forwards[0])
	}
	return text + ": " + i.Socket
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// forwardTitle says where a forward leads, with its name if it has one.
func forwardTitle(f admin.Forward) string {
	title := f.Listen + " leads to " + f.Server
	if f.Name != f.Listen {
		title = f.Name + ": " + title
	}
	return title
}

// silence says which instance does not answer, and why.
func (d *daemons) silence(i *instances.Instance) string {
	return fmt.Sprintf("process %d at %s: %v", i.PID, i.Socket, i.Err)
}

// instanceJSON is an instance in the JSON of status and sessions. docs/api.md has its names.
type instanceJSON struct {
	PID      int             `json:"pid"`
	UID      int             `json:"uid"`
	Socket   string          `json:"socket"`
	Status   *admin.Status   `json:"status,omitempty"`
	Sessions json.RawMessage `json:"sessions,omitempty"`
	Error    string          `json:"error,omitempty"` // why it does not answer
}

// each calls f for each instance that answers, and returns what an answer in JSON has of all.
func (d *daemons) each(f func(i *instances.Instance, out *instanceJSON) error) map[string][]instanceJSON {
	all := []instanceJSON{}
	for _, i := range d.found {
		out := instanceJSON{PID: i.PID, UID: i.UID, Socket: i.Socket}
		if i.Err == nil {
			i.Err = f(i, &out)
		}
		if i.Err != nil {
			out.Error = i.Err.Error()
		}
		all = append(all, out)
	}
	return map[string][]instanceJSON{"instances": all}
}

// reportSilent prints which instances have not answered. They make the exit status 1.
func (d *daemons) reportSilent(cmd *cobra.Command) error {
	var silent error
	for _, i := range d.found {
		if i.Err != nil {
			printError(cmd.ErrOrStderr(), errors.New(terminal.PrintableLines(d.silence(i))))
			silent = failure{status: exitFailed}
		}
	}
	return silent
}
