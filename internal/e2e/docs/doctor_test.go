package docs

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// varyingText differs from run to run: times, ports that the server chooses, and the number of sound
// things, which depends on the kernel.
var varyingText = regexp.MustCompile(`after (?:less than )?[0-9.]+m?s|:50[0-9]{3}\b|[0-9]+ things`)

// normalizedText removes what varies, and puts a text on one line.
func normalizedText(text string) string {
	return strings.Join(strings.Fields(varyingText.ReplaceAllString(text, "#")), " ")
}

// report is what doctor prints with --json.
type report struct {
	Findings []reportFinding
	Worst    string
}

type reportFinding struct{ Code, Level, Forward, Text, Remedy string }

// The example in docs/doctor.md is what doctor prints.
func TestDocsDoctorExample(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	d := named(t, "docs/doctor.md")
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server, peers.PassiveRangeSettings...)
	harness.Shell(t, l.Gateway(), "sysctl -qw net.ipv4.ip_forward=1; nft add table inet fw; "+
		"nft add chain inet fw forward '{ type filter hook forward priority 0; policy drop; }'")
	harness.Shell(t, l.Server(), "nft add table inet fw; nft add chain inet fw input '{ type filter hook "+
		"input priority 0; }'; "+
		"nft add rule inet fw input tcp dport 50000-50100 reject with tcp reset")
	file := harness.WriteFile(t, "ftpgate.toml", d.of("toml")[0].text)

	stdout, stderr, status := harness.Run(t, l.Gateway(), "doctor", "-c", file)
	if status != 1 || stderr != "" {
		t.Errorf("got exit status %d, on stderr %q; want 1", status, stderr)
	}
	printed := normalizedText(stdout)
	for finding := range strings.SplitSeq(findingStart.ReplaceAllString(d.of("text")[0].text, "\x00$1"),
		"\x00") {
		if want := normalizedText(finding); !strings.Contains(printed, want) {
			t.Errorf("docs/doctor.md has %q; got\n%s", want, stdout)
		}
	}

	var want report
	if err := json.Unmarshal([]byte(d.of("json")[0].text), &want); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ = harness.Run(t, l.Gateway(), "doctor", "--json", "-c", file)
	var got report
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || stderr != "" {
		t.Fatalf("got %q, error %v, on stderr %q; want JSON", stdout, err, stderr)
	}
	got.Findings = slices.DeleteFunc(got.Findings, func(f reportFinding) bool {
		return f.Level == "ok" ||
			f.Level == "info"
	})
	for _, of := range []*report{&want, &got} {
		for i := range of.Findings {
			of.Findings[i].Text = normalizedText(of.Findings[i].Text)
		}
	}
	if !slices.Equal(got.Findings, want.Findings) || got.Worst != want.Worst {
		t.Errorf("docs/doctor.md has %+v, %s; got %+v, %s", want.Findings, want.Worst, got.Findings,
			got.Worst)
	}
}

// findingStart finds the start of a finding. Folded lines are further to the right.
var findingStart = regexp.MustCompile(`(?m)^( ? ?[A-Za-z0-9])`)

// The codes in docs/doctor.md are those in the code.
func TestDocsDoctorCodes(t *testing.T) {
	code := regexp.MustCompile(`(?m)(?:^\tCode\w+ .*= |finding\.Finding\{Code: )"([a-z0-9_]+)"`)
	exist := []string{"tls_cert", "tls_key", "tls_ca", "tls_client_cert",
		"tls_client_key", "tls_client_ca", "tls_client_crl", "tls_client_min_version",
		"tls_server_min_version"} // keys of the file
	for _, path := range []string{"internal/diagnose/doctor/doctor.go",
		"internal/diagnose/servercheck/servercheck.go", "internal/gateway/bans/servers.go",
		"internal/gateway/bans/deny.go"} {
		text, err := os.ReadFile(repositoryRoot + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range code.FindAllStringSubmatch(string(text), -1) {
			exist = append(exist, m[1])
		}
	}
	_, list, _ := strings.Cut(named(t, "docs/doctor.md").text, "\n## Codes\n")
	var documented []string
	for line := range strings.Lines(list) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, m := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
				documented = append(documented, m[1])
			}
		}
	}
	slices.Sort(exist)
	exist = slices.Compact(exist)
	slices.Sort(documented)
	if !slices.Equal(documented, exist) || len(exist) < 50 {
		t.Errorf("docs/doctor.md has the codes\n%q\nthere are\n%q", documented, exist)
	}
}
