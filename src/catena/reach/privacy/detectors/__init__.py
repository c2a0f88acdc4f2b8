"""One file = one family of private text: each exports `find(text)`, which gives spans of it, in time linear in it."""
