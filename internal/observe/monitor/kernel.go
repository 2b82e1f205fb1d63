package monitor

import (
	"context"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/flows"
)

// kernel opens the sources, which the caller closes.
type kernel interface {
	// EnableAccounting makes conntrack count bytes, and returns the sysctls that it has changed.
	EnableAccounting() (changed []string, err error)
	// OpenTable opens the conntrack table.
	OpenTable() (table, error)
	// Subscribe opens the events of conntrack. None arrive before a Join.
	Subscribe() (events, error)
	// OpenLog opens the log of first and last segments.
	OpenLog(group uint16) (segments, error)
}

type table interface {
	flows.Table
	Close() error
}

// events receives events of conntrack. *conntrack.Watcher is one.
type events interface {
	Join(netflow.FlowChange) error
	Leave(netflow.FlowChange) error
	// Run delivers events until ctx is done, and returns nil then.
	Run(ctx context.Context, want netflow.Want, deliver func(netflow.FlowEvent)) error
	Close() error
}

// segments receives logged segments. *conntrack.Segments is one.
type segments interface {
	// Run delivers segments until ctx is done, and returns nil then. It calls lost after segments were lost.
	Run(ctx context.Context, deliver func(netflow.Segment), lost func()) error
	Close() error
}

type linux struct{}

func (linux) EnableAccounting() ([]string, error) { return system.EnableAccounting() }

func (linux) OpenTable() (table, error) {
	conn, err := conntrack.Open()
	if err != nil {
		return nil, err
	}
	return conntrackTable{conn}, nil
}

func (linux) Subscribe() (events, error) {
	w, err := conntrack.Subscribe()
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (linux) OpenLog(group uint16) (segments, error) {
	s, err := conntrack.Listen(group)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// conntrackTable is the table, with the payload of its flows.
type conntrackTable struct{ *conntrack.Conn }

func (conntrackTable) Payload(f netflow.Flow) (sent, received uint64) {
	sent, received, _ = conntrack.Payload(f)
	return sent, received
}
