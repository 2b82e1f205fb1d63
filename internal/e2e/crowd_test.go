package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/try/lab/labtest"
)

const (
	crowd     = 300
	crowdFile = 20_011 // bytes, of each
	crowdDoor = 16     // who logs in at once: half of vsftpd's backlog, beyond which the kernel drops SYNs
)

// Many sessions at once, each with a file of its own there and back: nobody gets another one's.
func TestCrowd(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			l := labtest.New(t)
			s := vsftpd(t, l.Server(), site4.server, "max_clients=0", "max_per_ip=0")
			start(t, l.Gateway(), append(append([]string{"forward"}, flags...),
				"--max-sessions-per-client", fmt.Sprint(crowd), gateway4, server4)...).ready()
			var wait, there sync.WaitGroup
			there.Add(crowd)
			door := make(chan struct{}, crowdDoor)
			errs := make(chan error, crowd)
			for i := range crowd {
				wait.Go(func() {
					door <- struct{}{}
					c, err := ftp.Dial(gateway4, dialling(t, l.Client()), ftp.DialWithDisabledEPSV(i%2 == 0))
					if err == nil {
						err = c.Login(s.user, s.password)
					}
					<-door
					there.Done()
					there.Wait()
					if err == nil {
						err = errors.Join(thereAndBack(c, fmt.Sprint("in/crowd-", i)), c.Quit())
					}
					if err != nil {
						errs <- fmt.Errorf("session %d: %w", i, err)
					}
				})
			}
			wait.Wait()
			close(errs)
			for err := range errs {
				t.Error(err)
			}
		})
	}
}

// thereAndBack stores a file and fetches it again.
func thereAndBack(c *ftp.ServerConn, name string) error {
	data := payload(crowdFile)
	if err := c.Stor(name, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	r, err := c.Retr(name)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("got %d bytes back; want the %d that were stored", len(got), len(data))
	}
	return nil
}
