"""Tests of LogQL's front end: text to tree and back.
`strategies` makes random trees for whoever needs queries."""
