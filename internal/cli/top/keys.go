package top

import (
	"unicode"
	"unicode/utf8"
)

// maxFilter is how long the text of the filter may be, in bytes.
const maxFilter = 100

// help has each key, for people.
var help = [][2]string{
	{"up, down, k, j", "move; pgup, pgdn, g, G move further"},
	{"enter", "a session's verdict and time line; of a forward its sessions"},
	{"esc, q", "back; q at the list ends the program, as ctrl-c does everywhere"},
	{"/", "show only sessions with a text: address, user, forward, state, file"},
	{"<, >, s", "sort by another column"},
	{"r", "reverse the order"},
	{"e", "show sessions that have ended, too"},
	{"f, tab", "forwards and the health of their servers; again: sessions"},
	{"K, F9", "kill: end the session, after a question"},
	{"B", "ban the session's client, after a question"},
	{"ctrl-l", "draw the screen anew"},
	{"ctrl-z", "suspend"},
	{"?, h", "this help"},
}

// press returns the state after a key.
func (s State) press(key string) (State, Request) {
	switch {
	case key == "ctrl+c":
		return s, Request{Quit: true}
	case key == "ctrl+z":
		return s, Request{Suspend: true}
	case key == "ctrl+l":
		return s, Request{Redraw: true}
	case s.asked == askFilter:
		return s.editFilter(key), Request{}
	case s.asked != askNothing:
		return s.answer(key)
	}
	switch key {
	case "q", "esc", "left", "backspace":
		return s.goBack(key)
	case "?", "h", "f1":
		s.view, s.back, s.scrolling = viewHelp, s.listView(), 0
		return s.closeTimeLine(), Request{}
	case "f", "tab":
		s = s.closeTimeLine()
		if s.view == viewForwards {
			s.view = viewSessions
		} else {
			s.view = viewForwards
		}
		return s, Request{}
	case "K", "f9", "B":
		return s.ask(key), Request{}
	}
	if s.view == viewSessions || s.view == viewForwards {
		return s.pressInList(key)
	}
	return s.scroll(key), Request{}
}

// listView returns the list that is shown, or was shown before a time line or the help.
func (s State) listView() view {
	if s.view == viewTimeLine || s.view == viewHelp {
		return s.back
	}
	return s.view
}

func (s State) closeTimeLine() State {
	s.lines = timeLine{}
	return s
}

// goBack closes the time line, the help, the forwards, or the filter. At the list q ends the program.
func (s State) goBack(key string) (State, Request) {
	switch {
	case s.view == viewTimeLine || s.view == viewHelp:
		s.view = s.back
		return s.closeTimeLine(), Request{}
	case key == "q":
		return s, Request{Quit: true}
	case s.view == viewForwards:
		s.view = viewSessions
	case key == "esc" && s.filter != "":
		s.filter = ""
		s = s.listAgain()
	}
	return s, Request{}
}

func (s State) pressInList(key string) (State, Request) {
	switch key {
	case "enter", "right":
		return s.open()
	case "/":
		s.asked, s.view = askFilter, viewSessions
		return s, Request{}
	case "<", ">", "s":
		step := 1
		if key == "<" {
			step = len(sortColumns) - 1
		}
		s.column, s.reversed = (s.column+step)%len(sortColumns), false
		return s.listAgain(), Request{}
	case "r", "R":
		s.reversed = !s.reversed
		return s.listAgain(), Request{}
	case "e":
		s.ended = !s.ended
		return s, Request{Poll: true}
	}
	if s.view == viewForwards {
		n := len(s.forwards())
		s.forward = max(0, min(moved(key, s.forward, n, s.bodyHeight()), n-1))
		return s, Request{}
	}
	s = s.selectAt(moved(key, s.cursor, len(s.list), s.bodyHeight()))
	s.follow = s.cursor > 0
	return s, Request{}
}

// open shows the time line of the selected session, or the sessions of the selected forward.
func (s State) open() (State, Request) {
	if s.view == viewForwards {
		if all := s.forwards(); s.forward < len(all) {
			s.filter, s.view = all[s.forward].Name, viewSessions
			s = s.listAgain()
		}
		return s, Request{}
	}
	of, _, found := s.target()
	if !found {
		return s, Request{}
	}
	s.back, s.view, s.scrolling = s.view, viewTimeLine, 0
	s.lines = timeLine{of: of}
	return s, Request{Poll: true}
}

// moved returns the place where a key leads, of n. page is how many are visible.
func moved(key string, place, n, page int) int {
	switch key {
	case "up", "k":
		return place - 1
	case "down", "j":
		return place + 1
	case "pgup", "b", "ctrl+b":
		return place - max(1, page)
	case "pgdown", "space", "ctrl+f":
		return place + max(1, page)
	case "home", "g":
		return 0
	case "end", "G":
		return n - 1
	}
	return place
}

// scroll moves the time line or the help.
func (s State) scroll(key string) State {
	n, page := len(s.textLines()), s.bodyHeight()
	if key == "enter" {
		key = "down"
	}
	place := moved(key, s.scrolling, n, page)
	s.scrolling = max(0, min(place, n-page))
	return s
}

// ask begins the question of a key, if there is a session that it could mean.
func (s State) ask(key string) State {
	_, one, found := s.target()
	switch {
	case !found:
		s.message = Result{"no session is selected", true}
	case key == "B":
		s.asked, s.about = askBan, s.aboutTarget()
	case !one.Ended.IsZero():
		s.message = Result{"session " + one.ID + " has ended already", true}
	default:
		s.asked, s.about = askKill, s.aboutTarget()
	}
	return s
}

// answer takes the answer to a question: any key that is no answer means no.
func (s State) answer(key string) (State, Request) {
	asked, about := s.asked, s.about
	s.asked = askNothing
	if asked == askKill {
		if key == "y" {
			return s, Request{Kill: about.of}
		}
		return s, Request{}
	}
	for _, l := range banLengths {
		if key == l.key {
			return s, banOf(about.of.Key, about.one.Client.Addr(), l.length)
		}
	}
	return s, Request{}
}

// editFilter changes the text of the filter, which takes effect at once.
func (s State) editFilter(key string) State {
	switch r, size := utf8.DecodeRuneInString(key); {
	case key == "enter":
		s.asked = askNothing
	case key == "esc":
		s.asked, s.filter = askNothing, ""
	case key == "backspace":
		_, last := utf8.DecodeLastRuneInString(s.filter)
		s.filter = s.filter[:len(s.filter)-last]
	case key == "ctrl+u":
		s.filter = ""
	case key == "space":
		s.filter += " "
	case size == len(key) && unicode.IsPrint(r) && len(s.filter)+size <= maxFilter:
		s.filter += key
	}
	return s.listAgain()
}
