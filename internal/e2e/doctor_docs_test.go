package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// varying is what is another one each time: times, ports that the server draws, and how much is sound, which
// depends on the kernel.
var varying = regexp.MustCompile(`after (?:less than )?[0-9.]+m?s|:50[0-9]{3}\b|[0-9]+ things`)

// folded is a text without what varies, on one line.
func folded(text string) string {
	return strings.Join(strings.Fields(varying.ReplaceAllString(text, "#")), " ")
}

// The example of docs/doctor.md is what doctor says.
func TestDocsDoctorExample(t *testing.T) {
	labtest.Need(t, "nft")
	d := named(t, "docs/doctor.md")
	l := labtest.New(t)
	vsftpd(t, l.Server(), site4.server, passiveSettings...)
	sh(t, l.Gateway(), "sysctl -qw net.ipv4.ip_forward=1; nft add table inet fw; "+
		"nft add chain inet fw forward '{ type filter hook forward priority 0; policy drop; }'")
	sh(t, l.Server(), "nft add table inet fw; nft add chain inet fw input '{ type filter hook input priority 0; }'; "+
		"nft add rule inet fw input tcp dport 50000-50100 reject with tcp reset")
	file := writeFile(t, "ftpgate.toml", d.of("toml")[0].text)

	stdout, stderr, status := run(t, l.Gateway(), "doctor", "-c", file)
	if status != 1 || stderr != "" {
		t.Errorf("got exit status %d, on stderr %q; want 1", status, stderr)
	}
	said := folded(stdout)
	for finding := range strings.SplitSeq(unfolded.ReplaceAllString(d.of("text")[0].text, "\x00$1"), "\x00") {
		if want := folded(finding); !strings.Contains(said, want) {
			t.Errorf("docs/doctor.md has %q; got\n%s", want, stdout)
		}
	}

	var want diagnosis
	if err := json.Unmarshal([]byte(d.of("json")[0].text), &want); err != nil {
		t.Fatal(err)
	}
	got := diagnose(t, l.Gateway(), "-c", file)
	got.Findings = slices.DeleteFunc(got.Findings, func(f finding) bool { return f.Level == "ok" || f.Level == "info" })
	for _, of := range []*diagnosis{&want, got} {
		for i := range of.Findings {
			of.Findings[i].Text = folded(of.Findings[i].Text)
		}
	}
	if !slices.Equal(got.Findings, want.Findings) || got.Worst != want.Worst {
		t.Errorf("docs/doctor.md has %+v, %s; got %+v, %s", want.Findings, want.Worst, got.Findings, got.Worst)
	}
}

// unfolded is where something begins in what doctor says: what is folded is far to the right.
var unfolded = regexp.MustCompile(`(?m)^( ? ?[A-Za-z0-9])`)

// The codes that docs/doctor.md lists are those that there are.
func TestDocsDoctorCodes(t *testing.T) {
	code := regexp.MustCompile(`(?m)^\tCode\w+ .*= "([a-z0-9_]+)"`)
	exist := []string{"tls_cert", "tls_key", "tls_ca", "tls_client_cert", "tls_client_key"} // keys of the file
	for _, path := range []string{"internal/diagnose/doctor/doctor.go", "internal/diagnose/servercheck/servercheck.go"} {
		text, err := os.ReadFile(repository + "/" + path)
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
	slices.Sort(documented)
	if !slices.Equal(documented, exist) || len(exist) < 50 {
		t.Errorf("docs/doctor.md has the codes\n%q\nthere are\n%q", documented, exist)
	}
}
