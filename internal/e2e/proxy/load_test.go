package proxy

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

const (
	clientsAtOnce = 300
	loginsAtOnce  = 16 // half of vsftpd's backlog, beyond which the kernel drops SYNs
)

// Many sessions at once store and retrieve a file each: none gets another one's.
func TestManyClients(t *testing.T) {
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, "max_clients=0", "max_per_ip=0")
			harness.Start(t, l.Gateway(), append(append([]string{"forward"}, flags...),
				"--max-sessions-per-client", fmt.Sprint(clientsAtOnce), harness.Gateway4,
				harness.Server4)...).AwaitReady()
			var wait, there sync.WaitGroup
			there.Add(clientsAtOnce)
			loginSlots := make(chan struct{}, loginsAtOnce)
			errs := make(chan error, clientsAtOnce)
			for i := range clientsAtOnce {
				wait.Go(func() {
					loginSlots <- struct{}{}
					c, err := ftp.Dial(harness.Gateway4, peers.FTPDialer(t, l.Client()),
						ftp.DialWithDisabledEPSV(i%2 == 0))
					if err == nil {
						err = c.Login(s.User, s.Password)
					}
					<-loginSlots
					there.Done()
					there.Wait()
					if err == nil {
						err = errors.Join(peers.StoreAndRetrieve(c, fmt.Sprint("in/crowd-", i)), c.Quit())
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
