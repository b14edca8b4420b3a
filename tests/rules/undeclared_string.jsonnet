// words.txt is not among this target's deps.
{ description: importstr 'tests/rules/words.txt' }
