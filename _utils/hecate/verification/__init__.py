"""Probes from outside: does DNS answer, does TLS hold, does the right thing come back, to those alone who may?

questions   the estate to what is to be asked: Visit, Record, Door (pure)
scope       what a deploy changed, and a sample of the rest (pure)
running     one prober's task: questions at a time, each tried a few times
visiting    one host at one edge: TCP, TLS, HTTP, spoofed headers, plain HTTP, who gets in
wire        one exchange that ends in time, whatever the other side does
login       a person without a browser, through authentik's own login
names       each record at its name server
crew        who probes what from where; a prober that does not answer is replaced
report      the table, and the same as data
"""

from hecate.verification.crew import Verification
from hecate.verification.probe import Probe
from hecate.verification.questions import Task, questions
from hecate.verification.report import Report, table
from hecate.verification.running import run

__all__ = ["Probe", "Report", "Task", "Verification", "questions", "run", "table"]
