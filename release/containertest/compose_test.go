package containertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

const composeFile = "../../packaging/containers/compose.yaml"

// compose reads compose.yaml as docker compose does, with variables of the environment.
func compose(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithName("ftp"), cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// composed is compose.yaml with what a user has to set.
func composed(t *testing.T) *types.Project {
	t.Helper()
	p, err := compose(t, "FTP_IMAGE=your/ftp-server", "FTPGATE_ADVERTISE="+lab.GatewayLAN4.String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCompose: only ftpgate publishes ports, and what has no default is asked for.
func TestCompose(t *testing.T) {
	if _, err := compose(t); err == nil || !strings.Contains(err.Error(), "set it to the ") {
		t.Errorf("without the variables: got error %v; want one that says what to set", err)
	}
	p := composed(t)
	var published []string
	for name, service := range p.Services {
		for _, port := range service.Ports {
			published = append(published, fmt.Sprintf("%s %s:%d", name, port.Published, port.Target))
		}
	}
	if got, want := strings.Join(published, ", "), "ftpgate 21:2121, ftpgate 50000:50000"; got != want {
		t.Errorf("got the ports %s; want %s", got, want)
	}
	version := strings.TrimSpace(harness.ReadFile(t, "../../internal/version/VERSION"))
	if got, want := p.Services["ftpgate"].Image, "ftpgate:"+version; got != want {
		t.Errorf("got the image %s; want %s", got, want)
	}
	if s := p.Services["ftpgate"]; !s.ReadOnly || len(s.CapAdd) > 0 || strings.Join(s.CapDrop, " ") != "ALL" {
		t.Errorf("got read-only %v, capabilities %v without %v; want read-only, and none at all", s.ReadOnly,
			s.CapAdd, s.CapDrop)
	}
}
