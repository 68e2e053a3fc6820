"""evalft view: run folders as local pages. Reads only, listens on this machine only, and asks nothing of the network.

runs.py finds and lists run folders, rows.py reads their rows a page at a time, server.py answers the browser.
"""
