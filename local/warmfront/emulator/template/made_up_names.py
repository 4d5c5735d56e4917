"""Names of resources that the template leaves unnamed: CloudFormation makes one up, and so do we, the same on every start."""

import re


def made_up_name(kind: str, logical_id: str, *, fifo: bool = False) -> str:
    """The logical id, within the rules of the resource's service."""
    if kind == "AWS::S3::Bucket":
        return re.sub(r"[^a-z0-9-]", "-", logical_id.lower()).ljust(3, "0")[:63]
    return f"{logical_id}.fifo" if fifo else logical_id
