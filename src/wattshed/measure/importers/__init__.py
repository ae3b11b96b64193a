"""Results of other tools as runs: recognised by what is in the file, never by its name.

What a tool measured of one request becomes a row of its own. Energy of a whole benchmark is never
spread over unlike requests in silence: it goes into one row, their mean, flagged with how it was
shared.
"""
