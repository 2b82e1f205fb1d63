package firewall

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"

	"ftpgate/internal/importer/rule"
)

// zone is a zone of firewalld, whose interfaces may stand below the ports.
type zone struct {
	name       string
	interfaces []string
	ports      []forwarded
	ftp        []rule.Place
	masquerade []rule.Place
}

const firewalldReload = "firewall-cmd --reload"

// add adds the rules of the zone.
func (z *zone) add(s *rule.Set) {
	var in rule.Interfaces
	command := "firewall-cmd --permanent --zone=" + z.name
	if z.name == "" {
		command = "firewall-cmd --permanent"
	}
	if len(z.interfaces) == 1 {
		in.Name = z.interfaces[0]
	} else if z.name != "" {
		in = rule.Zone(z.name)
	}
	for _, f := range z.ports {
		f.in = in
		to := ""
		if f.toPorts != "" {
			to = ":toport=" + f.toPorts
		}
		if f.toAddress != "" {
			to += ":toaddr=" + f.toAddress
		}
		if f.deletion == nil {
			f.deletion = []string{fmt.Sprintf("%s --remove-forward-port=port=%s:proto=%s%s", command, f.ports,
				f.protocol, to)}
		}
		f.gateway = true
		f.add(s)
	}
	for _, p := range z.ftp {
		addHelper(s, p, in, "21", command+" --remove-service=ftp")
	}
	for _, p := range z.masquerade {
		addMasquerade(s, p, "", "")
	}
}

// ParseZone reads zone files of firewalld, one behind the other. The error is about text that is not XML.
func ParseZone(text string) (*rule.Set, error) {
	s := newSet("firewalld zone", firewalldReload)
	lines := strings.Split(text, "\n")
	d := xml.NewDecoder(strings.NewReader(text))
	z := &zone{}
	var rich *forwarded // inside of <rule>
	for {
		t, err := d.Token()
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("firewalld's zone: %w", err)
		}
		line, _ := d.InputPos()
		p := rule.Place{Line: line, Text: strings.TrimSpace(lines[min(line, len(lines))-1])}
		switch t := t.(type) {
		case xml.StartElement:
			z.element(t, p, &rich, d)
		case xml.EndElement:
			switch t.Name.Local {
			case "rule":
				rich = nil
			case "zone":
				z.add(s)
				z = &zone{}
			}
		}
	}
}

// element reads the start of an element.
func (z *zone) element(t xml.StartElement, p rule.Place, rich **forwarded, d *xml.Decoder) {
	value := func(name string) string {
		for _, a := range t.Attr {
			if a.Name.Local == name {
				return a.Value
			}
		}
		return ""
	}
	switch t.Name.Local {
	case "short":
		if text, err := d.Token(); err == nil {
			if chars, ok := text.(xml.CharData); ok && simpleName.MatchString(string(chars)) {
				z.name = strings.ToLower(string(chars))
			}
		}
	case "interface":
		z.interfaces = append(z.interfaces, value("name"))
	case "service":
		if value("name") == "ftp" && *rich == nil {
			z.ftp = append(z.ftp, p)
		}
	case "masquerade":
		z.masquerade = append(z.masquerade, p)
	case "rule":
		*rich = &forwarded{}
	case "source":
		if *rich != nil {
			(*rich).clients = value("address")
		}
	case "destination":
		if *rich != nil {
			(*rich).at = value("address")
		}
	case "forward-port":
		f := forwarded{}
		if *rich != nil {
			f = **rich
			f.deletion = []string{"remove this rich rule: firewall-cmd --permanent " +
				"--remove-rich-rule='...' (firewall-cmd --list-rich-rules shows it)"}
		}
		f.place, f.protocol, f.ports = p, value("protocol"), value("port")
		f.toAddress, f.toPorts = value("to-addr"), value("to-port")
		z.ports = append(z.ports, f)
	}
}

var (
	simpleName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)
	zoneHead   = regexp.MustCompile(`^([A-Za-z0-9_-]+)( \(.*\))?$`)
	zoneFlag   = regexp.MustCompile(`--zone[= ]([A-Za-z0-9_-]+)`)
	portFlag   = regexp.MustCompile(`--add-forward-port[= ]['"]?([^\s'"]+)`)
	richWord   = regexp.MustCompile(`([a-z-]+) (address|port|protocol|to-port|to-addr)="([^"]*)"|` +
		`\b(protocol|to-port|to-addr)="([^"]*)"`)
)

// ParseFirewalld reads what "firewall-cmd --list-all" prints, and lines that begin with firewall-cmd.
func ParseFirewalld(text string) *rule.Set {
	s := newSet("firewalld", firewalldReload)
	z := &zone{}
	section := ""
	zones := []*zone{z}
	for i, raw := range strings.Split(text, "\n") {
		line := strings.TrimSpace(raw)
		p := rule.Place{Line: i + 1, Text: line}
		switch key, value, ok := strings.Cut(line, ":"); {
		case strings.Contains(line, "firewall-cmd "):
			zones = append(zones, commandLine(line, p))
		case line != "" && raw[0] != ' ' && raw[0] != '\t' && zoneHead.MatchString(line):
			z = &zone{name: zoneHead.FindStringSubmatch(line)[1]}
			zones = append(zones, z)
		case section == "rich rules" && strings.HasPrefix(line, "rule "):
			richRule(z, line, p)
		case strings.HasPrefix(line, "port=") && section == "forward-ports":
			z.ports = append(z.ports, forwardPort(line, p))
		case ok:
			section = key
			z.setting(key, strings.Fields(value), p)
		}
	}
	for _, z := range zones {
		z.add(s)
	}
	return s
}

// setting reads a line of a listed zone.
func (z *zone) setting(key string, values []string, p rule.Place) {
	switch key {
	case "interfaces":
		z.interfaces = values
	case "services":
		for _, v := range values {
			if v == "ftp" {
				z.ftp = append(z.ftp, p)
			}
		}
	case "masquerade":
		if len(values) == 1 && values[0] == "yes" {
			z.masquerade = append(z.masquerade, p)
		}
	case "forward-ports":
		for _, v := range values {
			z.ports = append(z.ports, forwardPort(v, p))
		}
	}
}

// forwardPort reads "port=21:proto=tcp:toport=21:toaddr=203.0.113.21".
func forwardPort(s string, p rule.Place) forwarded {
	f := forwarded{place: p}
	for part := s; part != ""; {
		key, rest, _ := strings.Cut(part, "=")
		value, next, _ := strings.Cut(rest, ":")
		if key == "toaddr" {
			value, next = rest, "" // the last one; an IPv6 address has colons
		}
		switch key {
		case "port":
			f.ports = value
		case "proto":
			f.protocol = value
		case "toport":
			f.toPorts = value
		case "toaddr":
			f.toAddress = value
		}
		part = next
	}
	return f
}

// commandLine reads a line of firewall-cmd: each is a zone of its own.
func commandLine(line string, p rule.Place) *zone {
	z := &zone{}
	if m := zoneFlag.FindStringSubmatch(line); m != nil {
		z.name = m[1]
	}
	for _, m := range portFlag.FindAllStringSubmatch(line, -1) {
		z.ports = append(z.ports, forwardPort(m[1], p))
	}
	if _, rich, ok := strings.Cut(line, "--add-rich-rule="); ok {
		richRule(z, strings.Trim(rich, `'`), p)
	}
	if strings.Contains(line, "--add-service=ftp") && !strings.Contains(line, "--add-service=ftp-") {
		z.ftp = append(z.ftp, p)
	}
	if strings.Contains(line, "--add-masquerade") {
		z.masquerade = append(z.masquerade, p)
	}
	return z
}

// richRule reads a rich rule that forwards a port.
func richRule(z *zone, line string, p rule.Place) {
	if !strings.Contains(line, "forward-port") {
		return
	}
	f := forwarded{place: p, protocol: "tcp",
		deletion: []string{fmt.Sprintf("firewall-cmd --permanent --remove-rich-rule='%s'", line)}}
	for _, m := range richWord.FindAllStringSubmatch(line, -1) {
		switch m[1] + " " + m[2] + m[4] {
		case "source address":
			f.clients = m[3]
		case "destination address":
			f.at = m[3]
		case "forward-port port":
			f.ports = m[3]
		case " protocol":
			f.protocol = m[5]
		case " to-port":
			f.toPorts = m[5]
		case " to-addr":
			f.toAddress = m[5]
		}
	}
	if strings.Contains(line, "NOT") {
		f.others = append(f.others, line)
	}
	z.ports = append(z.ports, f)
}
