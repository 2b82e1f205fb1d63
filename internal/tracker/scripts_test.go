package tracker

import (
	"net/netip"
	"strings"
)

var ends4 = Ends{
	Client:  netip.MustParseAddr("192.168.5.1"),
	Gateway: netip.MustParseAddr("192.168.5.2"),
	Outside: netip.MustParseAddr("203.0.113.1"),
	Server:  netip.MustParseAddr("203.0.113.21"),
}

var ends6 = Ends{
	Client:  netip.MustParseAddr("2001:db8:5::1"),
	Gateway: netip.MustParseAddr("2001:db8:5::2"),
	Outside: netip.MustParseAddr("2001:db8:113::1"),
	Server:  netip.MustParseAddr("2001:db8:113::21"),
}

// A script is what happens, line by line: "C" and "S" are lines that come from client and server, ">C"
// and ">S" what goes to them, "!" an effect, "+" the port that was opened or "+ error", "?" what was
// refused (its beginning), "." the end. What a line leads to stands behind it, all of it.
type script struct {
	name string
	ends Ends
	text string
}

const login = `
S 220 hello
>C 220 hello
C USER demo
>S USER demo
S 331 and now
>C 331 and now
C PASS secret
>S PASS secret
S 230 welcome
>C 230 welcome
`

var mixed46 = Ends{Client: ends4.Client, Gateway: ends4.Gateway, Outside: ends6.Outside, Server: ends6.Server}
var mixed64 = Ends{Client: ends6.Client, Gateway: ends6.Gateway, Outside: ends4.Outside, Server: ends4.Server}

var scripts = []script{
	{"PASV: the server's address is ignored, the gateway's is named", ends4, login + `
C PASV
>S PASV
! close
S 227 Entering Passive Mode (10,0,0,7,195,80)
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ 192.168.5.2:49999
>C 227 Entering Passive Mode (192,168,5,2,195,79)
! arm
C RETR \xe4 file 
>S RETR \xe4 file 
S 150 here it comes
>C 150 here it comes
S 226 done
>C 226 done
! complete
`},
	{"227 on the first of several lines, without parentheses (aioftp)", ends4, login + `
C PASV
>S PASV
! close
S 227-=10,0,0,7,195,80.
S  226 not this
S 227 end
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ 192.168.5.2:49999
>C 227 Entering Passive Mode (192,168,5,2,195,79)
! arm
`},
	{"EPSV to a server that does not know it", ends4, login + `
C EPSV
>S EPSV
! close
S 500 what?
>S PASV
S 227 ok (0,0,0,0,195,80)
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ 192.168.5.2:49999
>C 229 Entering Extended Passive Mode (|||49999|)
! arm
`},
	{"neither PASV nor EPSV", ends4, login + `
C EPSV
>S EPSV
! close
S 500 what?
>S PASV
S 502 no
>C 502 no
C NOOP
>S NOOP
`},
	{"IPv4 client, IPv6 server: PASV is asked as EPSV", mixed46, login + `
C PASV
>S EPSV
! close
S 229 ok (|||50000|)
! open 192.168.5.1 > 192.168.5.2:0 > 2001:db8:113::1 > [2001:db8:113::21]:50000
+ 192.168.5.2:49999
>C 227 Entering Passive Mode (192,168,5,2,195,79)
! arm
C PORT 192,168,5,1,156,64
! open 2001:db8:113::21 > [2001:db8:113::1]:0 > 192.168.5.2 > 192.168.5.1:40000
+ [2001:db8:113::1]:49998
>S EPRT |2|2001:db8:113::1|49998|
S 200 ok
>C 200 PORT command successful
! arm
`},
	{"IPv6 client, IPv4 server (RFC 6384): EPRT is asked as EPRT, then as PORT", mixed64, login + `
C PASV
>C 522 use EPSV: PASV has no room for an IPv6 address
? 522
C EPRT |2|2001:db8:5::1|40000|
! open 203.0.113.21 > 203.0.113.1:0 > 2001:db8:5::2 > [2001:db8:5::1]:40000
+ 203.0.113.1:49998
>S EPRT |1|203.0.113.1|49998|
S 500 EPRT not understood
>S PORT 203,0,113,1,195,78
S 200 ok
>C 200 EPRT command successful
! arm
`},
	{"PORT that the server refuses", ends4, login + `
C PORT 192,168,5,1,156,64
! open 203.0.113.21 > 203.0.113.1:0 > 192.168.5.2 > 192.168.5.1:40000
+ 203.0.113.1:49998
>S PORT 203,0,113,1,195,78
S 500 illegal PORT
>C 500 illegal PORT
! close
C LIST
>C 425 no data connection: send PASV, EPSV, PORT or EPRT first
? 425
`},
	{"PORT to others and to services", ends4, login + `
C PORT 10,0,0,1,156,64
>C 504 data connections go to your own address, 192.168.5.1, only
? 504
C PORT 192,168,5,2,156,64
>C 504 data connections go to your own address, 192.168.5.1, only
? 504
C PORT 192,168,5,1,0,80
>C 504 data connections go to ports from 1024 on only
? 504
C PORT 192,168,5,1,0,999
>C 501 PORT names no address and port
? 501
C EPRT |2|2001:db8::1|4000|
>C 522 network protocol not supported, use (1)
? 522
C EPRT |3|x|4000|
>C 522 network protocol not supported, use (1)
? 522
`},
	{"a server that offers its client port 22", ends4, login + `
C PASV
>S PASV
! close
S 227 ok (203,0,113,21,0,22)
>C 425 the server offers port 22: data connections go to ports from 1024 on only
? 425
`},
	{"227 that nobody asked for, and one that answers NOOP", ends4, login + `
S 227 ok (203,0,113,21,195,80)
? the server sent a reply that nobody asked for
C NOOP
>S NOOP
S 227 ok (203,0,113,21,195,80)
>C 451 the server's answer does not fit the command
? 451
`},
	{"nothing is parsed inside a multi-line reply", ends4, login + `
C STAT
>S STAT
S 211-status
>C 211-status
S 227 Entering Passive Mode (203,0,113,21,195,80)
>C 227 Entering Passive Mode (203,0,113,21,195,80)
S 221 bye
>C 221 bye
S 211 end
>C 211 end
`},
	{"no port free", ends4, login + `
C PASV
>S PASV
! close
S 227 ok (203,0,113,21,195,80)
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ error
>C 425 no port is free for a data connection, try again later
? 425
C NOOP
>S NOOP
`},
	{"no data command before login (security rule 11)", ends4, `
S 220 hello
>C 220 hello
C PASV
>C 530 log in first
? 530
C EPRT |1|192.168.5.1|4000|
>C 530 log in first
? 530
C STOR x
>C 530 log in first
? 530
`},
	{"EPSV: families and ALL (RFC 2428 section 4)", ends4, login + `
C EPSV 2
>C 522 network protocol not supported, use (1)
? 522
C EPSV 7
>C 522 network protocol not supported, use (1)
? 522
C EPSV x
>C 501 EPSV takes nothing, 1, 2 or ALL
? 501
C epsv all
>C 200 EPSV ALL: data connections by EPSV only from now on
C PASV
>C 501 PASV is not allowed after EPSV ALL
? 501
C PORT 192,168,5,1,156,64
>C 501 PORT is not allowed after EPSV ALL
? 501
C EPSV 1
>S EPSV
! close
`},
	{"REIN begins anew (RFC 959 section 4.1.1)", ends4, login + `
C EPSV ALL
>C 200 EPSV ALL: data connections by EPSV only from now on
C REIN
>S REIN
S 220 as new
>C 220 as new
! close
C PASV
>C 530 log in first
? 530
`},
	{"FEAT lists what works here (RFC 2389 section 3.2)", ends4, `
S 220 hello
>C 220 hello
C FEAT
>S FEAT
S 211-Features:
>C 211-Features:
S  AUTH TLS
S  EPSV
>C  EPSV
S  PBSZ
S  PROT
S  REST STREAM
>C  REST STREAM
S 211 End
>C 211 End
`},
	{"AUTH and what comes after it", ends4, `
S 220 hello
>C 220 hello
C AUTH TLS
>C 534 this gateway cannot carry an encrypted session to this server
? 534
C PROT P
>C 503 PROT needs AUTH, which this gateway does not offer
? 503
`},
	{"ABOR in a transfer, with Telnet's IP and Synch (RFC 959 section 4.1.3)", ends4, login + `
C PASV
>S PASV
! close
S 227 ok (203,0,113,21,195,80)
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ 192.168.5.2:49999
>C 227 Entering Passive Mode (192,168,5,2,195,79)
! arm
C RETR big
>S RETR big
S 150 here
>C 150 here
C \xff\xf4\xff\xf2ABOR
>S ABOR
! synch
S 426 broken off
>C 426 broken off
S 226 ABOR done
>C 226 ABOR done
! close
`},
	{"Telnet options are refused (RFC 1123 section 4.1.2.12)", ends4, `
S 220 hello
>C 220 hello
C \xff\xfb\x01\xff\xfd\x03NOOP
>C \xff\xfe\x01\xff\xfc\x03
>S NOOP
`},
	{"five failed logins", ends4, `
S 220 hello
>C 220 hello
` + strings.Repeat(`C PASS x
>S PASS x
S 530 no
>C 530 no
? login failed
`, 4) + `C PASS x
>S PASS x
S 530 no
>C 530 no
>C 421 too many failed logins
? login failed
.
`},
	{"a reply from the client", ends4, login + `
C 227 Entering Passive Mode (192,168,5,1,0,22)
>C 421 a client sends commands, not replies
? 421
.
`},
	{"a command from the server", ends4, login + `
S QUIT
>C 421 the server's answer is not FTP
? 421
.
`},
	{"the server gives up", ends4, login + `
S 421 timeout
>C 421 timeout
.
`},
	{"a server that is full", ends4, `
S 120 wait
>C 120 wait
S 421 too many users
>C 421 too many users
.
`},
	{"unknown commands pass, eight bits wide (RFC 5797, RFC 3659)", ends4, login + `
C SITE \xff\xffx  y 
>S SITE \xff\xffx  y 
S 200 ok
>C 200 ok
C XCUP
>S XCUP
`},
	{"not a command", ends4, login + `
C
>C 500 not an FTP command
? 500
C GET / HTTP/1.1
>S GET / HTTP/1.1
`},
	{"IPv6", ends6, login + `
C EPSV 2
>S EPSV
! close
S 229 ok (!!!50000!)
! open 2001:db8:5::1 > [2001:db8:5::2]:0 > 2001:db8:113::1 > [2001:db8:113::21]:50000
+ [2001:db8:5::2]:49999
>C 229 Entering Extended Passive Mode (|||49999|)
! arm
`},
}
