#!/usr/bin/python
# -*- coding: utf-8 -*-
"""Runs `hareload deploy` or `hareload rollback`, and tells Ansible what came of it."""

from __future__ import absolute_import, division, print_function

import json

from ansible.module_utils.basic import AnsibleModule

__metaclass__ = type

DOCUMENTATION = r"""
module: hareload
short_description: Deploy a HAProxy configuration, or go back to a kept one
description:
  - Runs C(hareload deploy) or C(hareload rollback) on the host. After a failure file and process are as they were.
  - In check mode it says what would be done (C(--dry-run)); in diff mode it shows what differs, without secrets.
options:
  bin:
    description: The program.
    type: path
    default: /usr/sbin/hareload
  command:
    description: What it is to do.
    choices: [deploy, rollback]
    default: deploy
  arguments:
    description: All else on its command line.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- hareload:
    arguments: [/srv/candidate, --if-changed, --probation, 30s]

- hareload:
    command: rollback
    arguments: [--to, "12"]
"""

RETURN = r"""
hareload:
  description: What hareload has told (schema hareload.deploy/1), without its timelines and diffs.
  type: dict
"""

# What is long, and of no use to a playbook.
LEFT_OUT = ("handover", "undo", "files")


def why(told):
    """Why it did not go as asked: a fate is a word, or an object of a word and the reason."""
    fate = told.get("fate")
    if not isinstance(fate, dict):
        return str(fate)
    reason = list(fate.values())[0]
    return reason[-1] if isinstance(reason, list) else str(reason)


def lines_of(told):
    """What was found, each in a line."""
    for finding in told.get("findings", []):
        place = ":".join(str(part) for part in (finding.get("file"), finding.get("line")) if part)
        line = "%s: %s" % (finding.get("level"), finding.get("message"))
        yield "%s: %s" % (place, line) if place else line
    for note in told.get("notes", []):
        yield "note: %s" % note


def main():
    module = AnsibleModule(
        argument_spec={
            "bin": {"type": "path", "default": "/usr/sbin/hareload"},
            "command": {"choices": ["deploy", "rollback"], "default": "deploy"},
            "arguments": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    command = module.params["command"]
    argv = [module.params["bin"], command, "--output", "json"]
    if module.check_mode:
        argv.append("--dry-run")
    if module._diff:
        argv.append("--diff")
    code, out, err = module.run_command(argv + module.params["arguments"])
    try:
        told = json.loads(out)
        if not isinstance(told, dict):
            raise ValueError("no object")
    except ValueError:
        module.fail_json(msg="hareload %s: exit code %d: %s" % (command, code, err.strip() or out.strip()), rc=code)
    files = told.get("files", [])
    result = {
        "rc": code,
        "hareload": dict((name, value) for name, value in told.items() if name not in LEFT_OUT),
        "changed": told.get("fate") in ("deployed", "foretold"),
    }
    result["hareload"]["files"] = [dict((name, one[name]) for name in one if name != "diff") for one in files]
    if code != 0:
        message = "hareload %s: exit code %d: %s" % (command, code, why(told))
        module.fail_json(msg="\n".join([message] + list(lines_of(told))), **dict(result, changed=False))
    if module._diff:
        result["diff"] = [{"prepared": one["diff"]} for one in files if one.get("diff")]
    module.exit_json(msg="\n".join([str(told.get("fate"))] + list(lines_of(told))), **result)


if __name__ == "__main__":
    main()
