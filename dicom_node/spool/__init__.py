"""Where Part 10 files live: half-received, kept, outgoing and quarantined.

    incoming/*.part                         half-received; gone when their process is gone
    instances/<study>/<series>/<sop>.dcm    acknowledged; the record that the ledger indexes
    outbox/<job>/<sop>.dcm                  results that wait for delivery
    quarantine/<sha256>.bin + .json         what was refused, and why
    removing/...                            on its way out

`open_spool` gives the `Spool` of the settings; nobody else has to know which form it has:

    place.py     what the settings say of it, in a form that goes to other processes
    access.py    `Spool`: what everybody uses; it asks one of
    folder.py    files in a folder, of this host or of a file system that several hosts mount
    objects.py   objects of a store (store.py), with copies on this host (cache.py); withdrawn.py
                 removes studies there, leaving.py in a folder
"""

from dicom_node.spool.access import Spool
from dicom_node.spool.kept import SetAside, StoredFile
from dicom_node.spool.names import uid_to_name
from dicom_node.spool.place import SpoolPlace, open_spool

__all__ = ["SetAside", "Spool", "SpoolPlace", "StoredFile", "open_spool", "uid_to_name"]
