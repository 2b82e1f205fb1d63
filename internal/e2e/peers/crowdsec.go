package peers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// crowdsecConfig is the configuration of a CrowdSec that reads one file: its directory stands in it.
const crowdsecConfig = `common: {daemonize: false, log_media: stdout, log_level: info, working_dir: .}
config_paths:
  config_dir: %[1]s
  data_dir: %[1]s/data
  simulation_path: %[1]s/simulation.yaml
  hub_dir: %[1]s/hub
  index_path: %[1]s/hub/.index.json
crowdsec_service: {acquisition_path: %[1]s/acquis.yaml, parser_routines: 1}
cscli: {output: human}
db_config: {type: sqlite, db_path: %[1]s/data/x.db}
api: {client: {credentials_path: %[1]s/credentials.yaml}}
prometheus: {enabled: false}
`

// CrowdsecAlerts has CrowdSec read a log file with the parser and the scenario of ftpgate's packaging, and
// returns the sources of the attacks that it reports, and their scenarios. Without CrowdSec the test is
// skipped.
func CrowdsecAlerts(t *testing.T, host *lab.Host, logFile string) (alerts []string) {
	t.Helper()
	program := findProgram(t, "crowdsec")
	root, dir := filepath.Join(filepath.Dir(program), "..", ".."), t.TempDir()
	hub := filepath.Join(root, "usr/share/crowdsec/hub/parsers")
	for to, from := range map[string]string{
		"patterns":                         filepath.Join(root, "etc/crowdsec/patterns"),
		"parsers/s00-raw/syslog-logs.yaml": filepath.Join(hub, "s00-raw/crowdsecurity/syslog-logs.yaml"),
		"parsers/s02-enrich/dateparse.yaml": filepath.Join(hub,
			"s02-enrich/crowdsecurity/dateparse-enrich.yaml"),
		"parsers/s01-parse/ftpgate-logs.yaml": filepath.Join(packaging, "crowdsec/parsers/ftpgate-logs.yaml"),
		"scenarios/ftpgate-bf.yaml":           filepath.Join(packaging, "crowdsec/scenarios/ftpgate-bf.yaml"),
	} {
		copyTo(t, filepath.Join(dir, to), from)
	}
	for _, name := range []string{"data", "hub"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	received, stop := receiveAlerts(t, host)
	for name, text := range map[string]string{
		"config.yaml": fmt.Sprintf(crowdsecConfig, dir), "acquis.yaml": "",
		"simulation.yaml":  "simulation: false\n",
		"hub/.index.json":  `{"parsers":{},"scenarios":{},"collections":{},"postoverflows":{}}`,
		"credentials.yaml": "url: http://" + received.address + "\nlogin: x\npassword: x\n",
	} {
		harness.OverwriteFile(t, filepath.Join(dir, name), text)
	}
	cmd := exec.Command(program, "-c", filepath.Join(dir, "config.yaml"), "-no-api", "-type", "ftpgate",
		"-dsn", "file://"+logFile)
	cmd.Dir = dir
	out, err := runOutput(host, cmd)
	stop()
	if err != nil {
		t.Fatalf("crowdsec: %v\n%s", err, out)
	}
	if len(received.alerts) == 0 {
		t.Logf("crowdsec:\n%s", out)
	}
	return received.alerts
}

// runOutput runs a command on a host, and returns what it prints.
func runOutput(host *lab.Host, cmd *exec.Cmd) ([]byte, error) {
	out, err := os.CreateTemp("", "ftpgate-crowdsec")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	errRun := host.Run(cmd)
	text, err := os.ReadFile(out.Name())
	if errRun != nil {
		err = errRun
	}
	return text, err
}

// copyTo copies a file or a directory.
func copyTo(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		harness.OverwriteFile(t, to, harness.ReadFile(t, from))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// received is what CrowdSec has reported to its API.
type received struct {
	address string
	alerts  []string // "ADDRESS SCENARIO"
}

// receiveAlerts is CrowdSec's local API, as far as it takes alerts. Read them after stop.
func receiveAlerts(t *testing.T, host *lab.Host) (r *received, stop func()) {
	t.Helper()
	l, err := host.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = &received{address: l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/watchers/login", func(w http.ResponseWriter, _ *http.Request) {
		expire := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		fmt.Fprintf(w, `{"code":200,"expire":%q,"token":"x"}`, expire)
	})
	mux.HandleFunc("POST /v1/alerts", func(w http.ResponseWriter, q *http.Request) {
		var alerts []struct {
			Scenario string
			Source   struct{ IP string }
		}
		if err := json.NewDecoder(q.Body).Decode(&alerts); err != nil {
			t.Errorf("crowdsec sends no alerts: %v", err)
		}
		for _, a := range alerts {
			r.alerts = append(r.alerts, a.Source.IP+" "+a.Scenario)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `["1"]`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	server := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return r, func() {
		server.Close()
		<-done
	}
}
